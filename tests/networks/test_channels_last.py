"""Layers with the channels last compute what torch's own do, and leave everything else to torch."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor
from torch import Tensor, nn

from medssl.networks.channels_last import InstanceNorm3d, PointwiseConv3d

LAYERS = {
    "norm": (lambda: InstanceNorm3d(5), lambda: nn.InstanceNorm3d(5, affine=True)),
    "pointwise": (lambda: PointwiseConv3d(5, 3), lambda: nn.Conv3d(5, 3, 1)),
    "pointwise without offset": (lambda: PointwiseConv3d(5, 3, bias=False), lambda: nn.Conv3d(5, 3, 1, bias=False)),
}
BOTH = pytest.mark.parametrize(("make", "make_reference"), LAYERS.values(), ids=LAYERS)


def _pair(make, make_reference, dtype: torch.dtype = torch.float64) -> tuple[nn.Module, nn.Module]:
    layer, reference = make(), make_reference().to(dtype)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    reference.load_state_dict(layer.state_dict())
    return layer, reference


def _maps(*shape: int) -> Tensor:
    return torch.randn(*shape).contiguous(memory_format=torch.channels_last_3d)


def _gradients(layer: nn.Module, maps: Tensor, weights: Tensor) -> list[Tensor]:
    entered = maps.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    out = layer(entered)
    (out * weights.to(out.dtype)).sum().backward()
    return [out.detach(), entered.grad, *(parameter.grad for parameter in layer.parameters())]


@BOTH
@pytest.mark.parametrize("shape", [(1, 5, 9, 8, 7), (3, 5, 4, 6, 1), (2, 5, 33, 17, 12)])
def test_values_and_gradients_are_those_of_torch_in_double_precision(make, make_reference, shape):
    layer, reference = _pair(make, make_reference)
    maps = _maps(*shape) * 3 + torch.linspace(-20, 20, 5).view(1, 5, 1, 1, 1)
    weights = torch.randn(layer(maps).shape)
    found, expected = _gradients(layer, maps, weights), _gradients(reference, maps.double(), weights)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4 * float(other.abs().max()))


@BOTH
def test_derivatives_are_those_of_finite_differences(make, make_reference):
    layer = _pair(make, make_reference)[0].double()
    maps = _maps(2, 5, 3, 2, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda maps, *_: layer(maps), (maps, *layer.parameters()))


@BOTH
def test_it_takes_the_fast_path_and_stays_in_the_layout(make, make_reference, monkeypatch):
    layer, maps = make(), _maps(2, 5, 6, 5, 4)

    def refuse(*_: object) -> Tensor:
        raise AssertionError

    monkeypatch.setattr(type(layer).__bases__[0], "forward", refuse)
    assert layer(maps).is_contiguous(memory_format=torch.channels_last_3d)
    with pytest.raises(AssertionError):
        layer(maps.contiguous())


@BOTH
def test_channels_first_are_left_to_torch(make, make_reference):
    layer, reference = _pair(make, make_reference, torch.float32)
    maps = torch.randn(2, 5, 6, 5, 4)
    assert torch.equal(layer(maps), reference(maps))


@BOTH
def test_mixed_precision_is_left_to_torch(make, make_reference):
    layer, reference = _pair(make, make_reference, torch.float32)
    maps = _maps(2, 5, 6, 5, 4)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = layer(maps), reference(maps)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)


def test_a_channel_that_does_not_vary_becomes_its_offset():
    layer = InstanceNorm3d(2)
    nn.init.constant_(layer.bias, 0.5)
    maps = _maps(1, 2, 8, 8, 8)
    maps[:, 1] = 1000.0
    maps.requires_grad_()
    out = layer(maps)
    torch.testing.assert_close(out[:, 1], torch.full_like(out[:, 1], 0.5), atol=0.05, rtol=0.0)
    out.square().sum().backward()
    assert torch.isfinite(maps.grad).all()


def test_a_gradient_in_another_layout_is_taken():
    layer, maps = InstanceNorm3d(5), _maps(2, 5, 6, 5, 4).requires_grad_()
    weights = torch.randn(2, 5, 6, 5, 4)
    layer(maps).backward(weights)
    kept = maps.grad.clone()
    maps.grad = None
    layer(maps).backward(weights.contiguous(memory_format=torch.channels_last_3d))
    torch.testing.assert_close(kept, maps.grad)


def test_a_tensor_of_monai_stays_one_and_may_be_changed_in_place():
    layer, activation = InstanceNorm3d(5), nn.LeakyReLU(0.1, inplace=True)
    plain = _maps(2, 5, 6, 5, 4).requires_grad_()
    scan = MetaTensor(plain.detach().clone(memory_format=torch.preserve_format), affine=2 * torch.eye(4))
    scan.requires_grad_()
    found, expected = activation(layer(scan)), activation(layer(plain))
    assert isinstance(found, MetaTensor)
    assert torch.equal(found.affine, scan.affine)
    assert torch.equal(found.as_tensor(), expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    assert torch.equal(scan.grad.as_subclass(Tensor), plain.grad)
