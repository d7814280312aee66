"""Two maps beside the logits: known values, agreement with plain passes, and what has no uncertainty."""

import pytest
import torch
from torch import nn

from medssl.core.errors import ConfigError
from medssl.networks import MultiViewNet, SplitSegResNet
from medssl.networks.channel_dropout import draw_masks, fixed_masks
from medssl.networks.ensemble import EnsembleNet
from medssl.networks.uncertainty_net import UncertaintyNet, disagreement

IMAGE = torch.randn(2, 1, 8, 16, 24, generator=torch.Generator().manual_seed(0))


def small(**options) -> SplitSegResNet:
    return SplitSegResNet(init_filters=8, blocks_down=(1, 1), blocks_up=(1,), out_channels=3, **options)


@pytest.fixture(scope="module")
def views() -> MultiViewNet:
    torch.manual_seed(0)
    return MultiViewNet(out_channels=3, network=lambda **options: small()).eval()


@torch.no_grad()
def test_logits_are_those_of_the_network(views: MultiViewNet) -> None:
    found = UncertaintyNet(views).eval()(IMAGE)
    assert found.shape == (2, 5, 8, 16, 24)
    assert torch.allclose(found[:, :3], views(IMAGE), atol=1e-6)


@torch.no_grad()
def test_variance_is_that_of_plain_passes() -> None:
    torch.manual_seed(0)
    network = small().eval()
    masks = draw_masks(network, 4, generator=torch.Generator().manual_seed(0))
    passes = []
    for number in range(4):
        with fixed_masks(network, [mask[number : number + 1].expand(2, -1) for mask in masks]):
            passes.append(network(IMAGE).double().softmax(1))
    expected = torch.stack(passes).var(0, unbiased=False).mean(1)
    assert torch.allclose(UncertaintyNet(network, passes=4)(IMAGE)[:, 4].double(), expected, atol=1e-6)


@torch.no_grad()
def test_maps_of_an_image_do_not_depend_on_its_batch(views: MultiViewNet) -> None:
    network = UncertaintyNet(views).eval()
    assert torch.allclose(network(IMAGE)[1:], network(IMAGE[1:]), atol=1e-6)


def test_disagreement_is_0_of_equals_and_1_of_certain_opposites() -> None:
    certain = torch.eye(3)[:, None, :, None, None, None]
    assert disagreement(certain).item() == pytest.approx(1.0)
    assert disagreement(certain[:1].expand(3, *certain.shape[1:])).item() == 0.0
    assert disagreement(certain[:2]).item() == pytest.approx(1.0)


def test_disagreement_of_two_halves_is_a_known_number() -> None:
    two = torch.tensor([[1.0, 0.0], [0.5, 0.5]])[:, None, :, None, None, None]
    expected = (0.5623351446 - 0.5 * 0.6931471806) / 0.6931471806
    assert disagreement(two).item() == pytest.approx(expected, abs=1e-6)


@torch.no_grad()
def test_members_without_dropout_have_disagreement_only() -> None:
    torch.manual_seed(0)
    found = UncertaintyNet(EnsembleNet(networks=[nn.Conv3d(1, 2, 1), nn.Conv3d(1, 2, 1)]))(IMAGE)
    assert found[:, 2].max() > 0
    assert found[:, 3].abs().max() == 0


def test_one_certain_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="several views or members"):
        UncertaintyNet(nn.Conv3d(1, 2, 1))
