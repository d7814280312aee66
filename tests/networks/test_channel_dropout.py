"""Dropout of channels: what it does by itself, and with masks that are put in."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl.core.errors import ConfigError
from medssl.networks.channel_dropout import ChannelDropout, draw_masks, fixed_masks

_FEATURES = torch.ones(4, 6, 2, 3, 4)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_whole_channels_are_dropped_and_the_others_scaled() -> None:
    out = ChannelDropout(6, rate=0.5)(_FEATURES).flatten(2)
    assert (out == out[:, :, :1]).all()
    assert set(out.unique().tolist()) == {0.0, 2.0}


def test_the_mean_is_kept_and_the_share_is_the_rate() -> None:
    masks = ChannelDropout(100, rate=0.3).draw(2000, generator=_generator())
    assert masks.mean().item() == pytest.approx(1.0, abs=0.01)
    assert (masks == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)


def test_evaluation_mode_drops_nothing_unless_masks_are_given() -> None:
    dropout = ChannelDropout(6, rate=0.5).eval()
    assert torch.equal(dropout(_FEATURES), _FEATURES)
    masks = draw_masks(dropout, 4, generator=_generator())
    with fixed_masks(dropout, masks):
        assert torch.equal(dropout(_FEATURES)[:, :, 0, 0, 0], masks[0])
    assert torch.equal(dropout(_FEATURES), _FEATURES)


def test_masks_depend_on_their_generator_alone() -> None:
    network = nn.Sequential(ChannelDropout(6), ChannelDropout(3))
    torch.manual_seed(1)
    first = draw_masks(network, 4, generator=_generator(5))
    torch.manual_seed(2)
    second = draw_masks(network, 4, generator=_generator(5))
    assert [tuple(mask.shape) for mask in first] == [(4, 6), (4, 3)]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_drawing_masks_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    draw_masks(ChannelDropout(6), 4, generator=_generator())
    assert torch.equal(torch.get_rng_state(), before)


def test_masks_are_taken_out_after_an_error() -> None:
    dropout = ChannelDropout(6).eval()
    with pytest.raises(RuntimeError), fixed_masks(dropout, [torch.ones(3, 6)]):
        dropout(_FEATURES)
    assert dropout.masks is None


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_impossible_rates_are_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="at least 0 and below 1"):
        ChannelDropout(6, rate=rate)
