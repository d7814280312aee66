"""Moments of stochastic passes: right in every grouping, cheap and equal to full passes, the same in half precision."""

from __future__ import annotations

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import nn

from medssl.core.errors import ConfigError
from medssl.networks import ChannelDropout, SplitSegResNet, SplitUNet, ViewNet
from medssl.networks.channel_dropout import draw_masks, fixed_masks
from medssl.networks.split import evaluation_mode
from medssl.networks.stochastic_passes import Moments, merged, moments_of, tail_moments, uncertainty_of

_PASSES = 7
_IMAGE = torch.randn(2, 1, 16, 16, 16, generator=torch.Generator().manual_seed(1))
_NETWORKS = {
    "view_net": partial(ViewNet, size="tiny", out_channels=3),
    "segresnet": partial(SplitSegResNet, init_filters=8, blocks_down=(1, 1), blocks_up=(1,), out_channels=3),
    "unet": partial(SplitUNet, channels=(8, 16, 32), strides=(2, 2), out_channels=3),
}
_PLACES = [
    ("view_net", "last_block"),
    ("view_net", "head"),
    ("segresnet", "last_block"),
    ("segresnet", "head"),
    ("unet", "last_block"),  # its only one
]


def _made(name: str, place: str = "last_block", **options):
    torch.manual_seed(0)
    options |= {} if name == "unet" else {"dropout_place": place}
    network = _NETWORKS[name](**options)
    return network, draw_masks(network, _PASSES * 2, generator=torch.Generator().manual_seed(3))


def _tails(network, masks, *, chunk: int = 3, dtype: torch.dtype | None = None) -> Moments:
    def autocast():
        return nullcontext() if dtype is None else torch.autocast("cpu", dtype=dtype)

    with torch.no_grad(), evaluation_mode(network):
        with autocast():
            features = network.decode(network.encode(_IMAGE))
        return tail_moments(network, features, masks, chunk=chunk, autocast=autocast)


@pytest.mark.parametrize(("name", "place"), _PLACES)
def test_repeated_tails_give_the_uncertainty_of_full_passes_with_the_same_masks(name: str, place: str) -> None:
    network, masks = _made(name, place)
    passes = []
    with torch.no_grad(), evaluation_mode(network):
        for k in range(_PASSES):
            with fixed_masks(network, [mask[2 * k : 2 * k + 2] for mask in masks]):
                passes.append(network(_IMAGE).double().softmax(1))
    full = torch.stack(passes)
    cheap = _tails(network, masks)
    assert torch.allclose(cheap.mean.double(), full.mean(0), atol=1e-6)
    assert torch.allclose(cheap.variance.double(), full.var(0, correction=0), atol=1e-6)
    expected = uncertainty_of(full.var(0, correction=0))
    assert torch.allclose(uncertainty_of(cheap.variance).double(), expected, rtol=1e-3, atol=1e-7)
    assert (expected > 1e-4).all()


@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_moments_do_not_depend_on_the_passes_taken_at_once(chunk: int) -> None:
    network, masks = _made("segresnet")
    found, expected = _tails(network, masks, chunk=chunk), _tails(network, masks, chunk=_PASSES)
    assert torch.allclose(found.mean, expected.mean, atol=1e-6)
    assert torch.allclose(found.variance, expected.variance, atol=1e-6)


def test_variance_near_one_keeps_its_digits_and_is_never_negative() -> None:
    generator = torch.Generator().manual_seed(0)
    passes = (0.999 + 1e-4 * torch.randn(10, 1, 1, 20, 20, 20, generator=generator, dtype=torch.float64)).float()
    found = moments_of(passes).variance
    exact = passes.double().var(0, correction=0)
    naive = passes.square().mean(0) - passes.mean(0).square()
    assert (found >= 0).all()
    assert ((found - exact).abs() / exact).max() < 1e-2
    assert (naive < 0).any()  # what the form of the paper's equation would give


def test_groups_of_passes_merge_into_the_moments_of_all() -> None:
    passes = torch.rand(9, 2, 3, 2, 3, 4, dtype=torch.float64).float()
    found = merged(moments_of(passes[:2]), moments_of(passes[2:]), counts=(2, 7))
    assert torch.allclose(found.mean, passes.mean(0), atol=1e-6)
    assert torch.allclose(found.variance, passes.var(0, correction=0), atol=1e-6)


class _Linear(nn.Module):
    """Head of one 1 x 1 x 1 convolution behind dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.dropout = ChannelDropout(6, rate=0.3)
        self.weight = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))

    def tail(self, features: torch.Tensor) -> torch.Tensor:
        return torch.einsum("kc,bcxyz->bkxyz", self.weight, self.dropout(features))


def test_the_variance_of_a_linear_tail_tends_to_its_formula() -> None:
    network, passes = _Linear(), 20_000
    masks = draw_masks(network, passes, generator=torch.Generator().manual_seed(0))
    with fixed_masks(network, masks):
        logits = network.tail(torch.ones(1, 6, 1, 1, 1))
    expected = 0.3 / 0.7 * network.weight.square().sum(1)
    assert torch.allclose(moments_of(logits).variance.flatten(), expected, rtol=0.05)


def test_without_dropout_there_is_no_uncertainty() -> None:
    network, masks = _made("segresnet", dropout_rate=0.0)
    assert uncertainty_of(_tails(network, masks, chunk=_PASSES).variance).max() < 1e-14


@pytest.mark.parametrize(("name", "place"), _PLACES)
def test_confidences_in_bfloat16_agree_to_one_per_cent(name: str, place: str) -> None:
    network, masks = _made(name, place)
    full = uncertainty_of(_tails(network, masks).variance)
    half = uncertainty_of(_tails(network, masks, dtype=torch.bfloat16).variance)
    assert half.dtype is torch.float32
    assert torch.allclose(1 / half, 1 / full, rtol=0.01)


@pytest.mark.parametrize(("name", "place"), _PLACES[:4])  # the UNet ends in a sum, where 8 loses digits before that
def test_a_sure_network_in_bfloat16_keeps_the_digits_of_its_variance(name: str, place: str) -> None:
    network, masks = _made(name, place)
    head = [module for module in network.modules() if isinstance(module, nn.Conv3d) and module.out_channels == 3][-1]
    with torch.no_grad():
        head.bias[0] += 8.0  # probabilities near 1, where bfloat16 has steps of 0.004
    full = uncertainty_of(_tails(network, masks).variance)
    half = uncertainty_of(_tails(network, masks, dtype=torch.bfloat16).variance)
    assert (full < 1e-6).all()
    # Logits near 8 are rounded to 0.03, that is 1.6% of the small probabilities; a softmax in bfloat16 loses half of u
    assert torch.allclose(1 / half, 1 / full, rtol=0.03)


def test_a_voxel_gets_its_own_uncertainty_and_a_sample_their_mean() -> None:
    variance = torch.rand(2, 3, 4, 5, 6)
    by_voxel = uncertainty_of(variance, granularity="voxel")
    assert by_voxel.shape == (2, 1, 4, 5, 6)
    assert torch.allclose(by_voxel.flatten(1).mean(1), uncertainty_of(variance))


def test_no_pass_is_refused() -> None:
    network, _ = _made("segresnet")
    with pytest.raises(ConfigError, match="at least one pass over 2 samples, got 0"):
        _tails(network, [torch.zeros(0, 8)])
