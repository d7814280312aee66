"""The network of one view: blind along one axis, sized as published, and equal to its 2D parent."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import resnet18, resnet50
from torch import nn

from medssl.core.errors import ConfigError
from medssl.networks import VIEWS, ViewNet
from medssl.networks.split import check_tail_dropout
from medssl.networks.view_net import _BasicBlock, _Bottleneck
from medssl.networks.weights import transfer_weights


@pytest.mark.parametrize("size", ["tiny", "resnet18", "resnet50"])
@pytest.mark.parametrize("place", ["last_block", "head"])
def test_logits_have_the_size_of_the_image_and_every_weight_a_gradient(size: str, place: str) -> None:
    network = ViewNet(in_channels=2, out_channels=5, size=size, dropout_place=place)
    check_tail_dropout(network)
    image = torch.randn(1, 2, *network.strides[:2], 2 * network.strides[2])
    logits = network(image)
    assert logits.shape == (1, 5, *image.shape[2:])
    logits.square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_sizes_are_those_of_the_table() -> None:
    counts = {size: sum(p.numel() for p in ViewNet(size=size).parameters()) for size in ("tiny", "resnet18")}
    assert counts["tiny"] == pytest.approx(0.77e6, rel=0.01)
    assert counts["resnet18"] == pytest.approx(11.79e6, rel=0.02)  # as published for UMCT's 3D ResNet-18


@pytest.mark.parametrize("block", [_BasicBlock, _Bottleneck])
def test_a_block_sees_its_own_slice_only(block: type) -> None:
    network = block(4, 4, stride=1, norm="batch").eval()
    volume = torch.randn(1, 4, 6, 6, 5, requires_grad=True)
    network(volume)[..., 2].sum().backward()
    assert volume.grad[..., 2].abs().max() > 0
    assert volume.grad[..., [0, 1, 3, 4]].abs().max() == 0


@pytest.mark.parametrize("name", ["coronal", "sagittal"])
def test_a_view_equals_kernels_laid_along_its_axes(name: str) -> None:
    view = VIEWS[name]
    weight = torch.randn(3, 2, 3, 3, 1)
    volume = torch.randn(1, 2, 6, 8, 10)
    seen = view.from_view(nn.functional.conv3d(view.to_view(volume), weight))
    laid = view.from_view(weight)
    assert laid.shape[2 + view.axes[2]] == 1
    assert torch.allclose(seen, nn.functional.conv3d(volume, laid), atol=1e-5)


@pytest.mark.parametrize(("size", "parent"), [("resnet18", resnet18), ("resnet50", resnet50)])
def test_inflated_stages_equal_their_2d_parent_on_a_volume_constant_along_depth(size: str, parent) -> None:
    flat = parent(
        spatial_dims=2, n_input_channels=3, conv1_t_stride=2, feed_forward=False, bias_downsample=False
    ).eval()
    for module in flat.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics that are not those of a fresh layer
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    network = ViewNet(size=size, norm="batch").eval()
    report = transfer_weights(network, flat.state_dict(), minimum_match=0.7)
    encoder = [name for name in network.state_dict() if name.startswith(("conv1", "bn1", "layer"))]
    assert set(encoder) == set(report.loaded + report.inflated)
    grey = torch.randn(1, 1, 32, 32)
    with torch.no_grad():
        expected = flat.bn1(flat.conv1(grey.expand(-1, 3, -1, -1)))
        found = network.bn1(network.conv1(grey[..., None].expand(-1, -1, -1, -1, 8)))[..., 1:-1]
        assert torch.allclose(found, expected[..., None].expand_as(found), atol=1e-4)
        for name in ("layer1", "layer2", "layer3", "layer4"):
            expected, found = getattr(flat, name)(expected), getattr(network, name)(_thick(expected))
            assert torch.allclose(found, expected[..., None].expand_as(found), atol=1e-3)


def _thick(slice_features: torch.Tensor) -> torch.Tensor:
    return slice_features[..., None].expand(*slice_features.shape, 2)


def test_instance_norm_has_no_place_for_running_statistics() -> None:
    flat = resnet18(spatial_dims=2, n_input_channels=3, feed_forward=False, bias_downsample=False)
    report = transfer_weights(ViewNet(), flat.state_dict(), minimum_match=0.7)
    assert "bn1.weight" in report.loaded
    assert all("running" in name or "tracked" in name for name in report.unexpected)


def test_an_unknown_size_is_refused() -> None:
    with pytest.raises(ConfigError, match="tiny, resnet18, resnet50"):
        ViewNet(size="huge")


def test_an_image_that_is_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[8, 8, 8\] voxels is too small for strides \(8, 8, 8\)"):
        ViewNet(size="tiny")(torch.randn(2, 1, 8, 8, 8))
    assert ViewNet(size="tiny")(torch.randn(2, 1, 16, 8, 8)).shape[2:] == (16, 8, 8)
