"""The slice network: each slice on its own, 2D weights, the three parts of the encoder contract."""

from __future__ import annotations

import pytest
import torch

from medssl.networks import SliceUNet
from medssl.networks.split import check_tail_dropout

_SMALL = {"channels": (4, 8, 8), "out_channels": 3}


@pytest.mark.parametrize("norm", ["batch", ("instance", {"affine": True})])
def test_a_volume_gives_what_its_slices_give(norm) -> None:
    network = SliceUNet(norm=norm, **_SMALL).eval()
    volume = torch.rand(2, 1, 16, 12, 5)
    alone = torch.cat([network(volume[..., z : z + 1]) for z in range(5)], dim=-1)
    assert network(volume).shape == (2, 3, 16, 12, 5)
    assert torch.allclose(network(volume), alone, atol=1e-5)


def test_a_slice_sees_itself_only() -> None:
    volume = torch.rand(1, 1, 16, 16, 3, requires_grad=True)
    SliceUNet(**_SMALL)(volume)[..., 1].sum().backward()
    assert volume.grad[..., 1].abs().sum() > 0
    assert not volume.grad[..., [0, 2]].any()


def test_the_published_size_has_its_channels_and_stride() -> None:
    network = SliceUNet(out_channels=4)
    assert network.strides == (32, 32, 1)
    assert [features.shape[1] for features in network.encode(torch.rand(1, 1, 64, 64, 1))] == [
        16,
        32,
        64,
        128,
        128,
        128,
    ]
    assert network.decode_blocks(network.encode(torch.rand(1, 1, 192, 192, 1)), 3).shape == (1, 64, 48, 48, 1)


def test_every_weight_gets_a_gradient_and_is_2d() -> None:
    network = SliceUNet(dropout_rate=0.3, **_SMALL)
    check_tail_dropout(network)
    network(torch.rand(1, 1, 16, 16, 2)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.ndim in {1, 4} for parameter in network.parameters())
