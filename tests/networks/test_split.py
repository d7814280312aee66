"""The contract of split networks, and MONAI's SegResNet that keeps it."""

from __future__ import annotations

import pytest
import torch
from monai.networks.nets import SegResNet
from torch import nn

from medssl.core.errors import ConfigError
from medssl.networks import VIEWS, SliceUNet, SplitNetwork, SplitSegResNet, SplitUNet, ViewNet
from medssl.networks.channel_dropout import draw_masks, fixed_masks
from medssl.networks.pretrained import feature_shape
from medssl.networks.split import check_patch_size, check_tail_dropout, evaluation_mode, patch_strides
from medssl.networks.weights import transfer_weights

_IMAGE = torch.randn(2, 1, 8, 16, 8)
_PLACES = ("last_block", "head")


def _segresnet(place: str = "last_block") -> SplitSegResNet:
    return SplitSegResNet(init_filters=4, blocks_down=(1, 1), blocks_up=(1,), out_channels=3, dropout_place=place)


def _networks() -> list[nn.Module]:
    unet = SplitUNet(out_channels=3, channels=(4, 6, 8), strides=(2, 2))
    return [*(make(place) for make in (_segresnet, _tiny) for place in _PLACES), unet]


def _tiny(place: str) -> ViewNet:
    return ViewNet(size="tiny", out_channels=3, dropout_place=place)


@pytest.mark.parametrize(
    "network",
    _networks(),
    ids=lambda network: f"{type(network).__name__}-{getattr(network, 'dropout_place', 'last_block')}",
)
def test_the_tail_repeated_over_a_batch_equals_full_passes_with_the_same_masks(network) -> None:
    image = torch.randn(2, 1, 16, 16, 16)
    passes = 3
    masks = draw_masks(network, passes * 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), evaluation_mode(network):
        features = network.decode(network.encode(image))
        with fixed_masks(network, masks):
            batched = network.tail(features)
        for k in range(passes):
            with fixed_masks(network, [mask[2 * k : 2 * k + 2] for mask in masks]):
                assert torch.allclose(network(image), batched[2 * k : 2 * k + 2], atol=1e-6)
    assert not torch.allclose(batched[:2], batched[2:4], atol=1e-3)


@pytest.mark.parametrize("place", _PLACES)
def test_weights_fit_the_stock_segresnet_both_ways(place: str) -> None:
    stock = SegResNet(
        init_filters=4, blocks_down=(1, 1), blocks_up=(1,), out_channels=3, norm=("instance", {"affine": True})
    )
    split = _segresnet(place).eval()
    assert transfer_weights(split, stock.state_dict()).match == 1.0
    assert stock.state_dict().keys() == split.state_dict().keys()
    assert torch.equal(split(_IMAGE), stock(_IMAGE))


def test_split_networks_are_recognised_and_others_are_not() -> None:
    assert isinstance(_segresnet(), SplitNetwork)
    assert not isinstance(SegResNet(init_filters=8), SplitNetwork)


def test_dropout_in_the_encoder_is_refused_unless_its_rate_is_0() -> None:
    network = _segresnet()
    check_tail_dropout(network)
    network.convInit.add_module("extra", nn.Dropout3d(0.0))
    check_tail_dropout(network)
    network.convInit.extra.p = 0.2
    with pytest.raises(ConfigError, match=r"1 dropout layers .* outside its tail"):
        check_tail_dropout(network)


def test_dropout_of_logits_is_refused() -> None:
    network = _segresnet()
    network.conv_final.add_module("3", nn.Dropout3d(0.2))
    with pytest.raises(ConfigError, match="behind its output convolution"):
        check_tail_dropout(network)


def test_an_unknown_place_is_refused() -> None:
    with pytest.raises(ConfigError, match='"last_block" or "head", got \'bottleneck\''):
        SplitSegResNet(dropout_place="bottleneck")


def test_all_axes_of_a_patch_that_do_not_fit_are_named() -> None:
    network = ViewNet(size="tiny")
    check_patch_size(network, (32, 48, 8))
    with pytest.raises(ConfigError, match=r"X = 12 is no multiple of 8; Z = 4 is no multiple of 8"):
        check_patch_size(network, (12, 48, 4))


def test_a_patch_meets_the_strides_of_every_view() -> None:
    network = _segresnet()
    network.strides = (4, 4, 1)
    check_patch_size(network, (8, 8, 3))
    with pytest.raises(ConfigError, match="Z = 3 is no multiple of 4"):
        check_patch_size(network, (8, 8, 3), views=(VIEWS["axial"], VIEWS["coronal"]))


def test_modules_get_their_own_mode_back_also_after_an_error() -> None:
    network = _segresnet().train()
    network.convInit.eval()  # frozen on purpose
    before = [module.training for module in network.modules()]
    with pytest.raises(KeyError), evaluation_mode(network):
        assert not any(module.training for module in network.modules())
        raise KeyError
    assert [module.training for module in network.modules()] == before


def test_patches_fit_the_network_or_the_deepest_of_its_parts() -> None:
    network = torch.nn.ModuleList([_segresnet(), _segresnet()])
    network[1].strides = (2, 16, 2)
    assert patch_strides(network[1]) == (2, 16, 2)
    assert patch_strides(network) == (16, 16, 16)
    assert patch_strides(torch.nn.Conv3d(1, 1, 1)) is None


@pytest.mark.parametrize("size", [(8, 8, 1), (20, 24, 1)])
def test_a_size_that_a_network_cannot_take_is_told_with_its_strides(size: tuple) -> None:
    network = SliceUNet(channels=(4, 8, 8, 8))
    assert list(feature_shape(network, (16, 24, 1), 1, blocks=1)) == [8, 4, 6, 1]
    with pytest.raises(ConfigError, match=r"SliceUNet cannot take 1 channels of .* multiples of \(8, 8, 1\)"):
        feature_shape(network, size, 1, blocks=3)
