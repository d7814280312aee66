"""Draws for the samples of one process: what one process with all samples would draw for them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from medssl.networks.channel_dropout import ChannelDropout
from medssl.training import own_samples
from medssl.training.own_samples import own_masks, own_noise, own_places, stream_masks


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch):
    """Act as one of several processes."""

    def act(rank: int, count: int) -> None:
        monkeypatch.setattr(own_samples, "process_rank", lambda: rank)
        monkeypatch.setattr(own_samples, "process_count", lambda: count)

    return act


def test_processes_together_draw_what_one_draws(process) -> None:
    network = nn.Sequential(ChannelDropout(5, rate=0.5), ChannelDropout(7, rate=0.5))
    image = torch.zeros(6, 1, 2, 3, 4)
    masks, noise = own_masks(network, 6, generator=_generator(), passes=2), own_noise(image, 0, "noise", 4)
    streams = stream_masks(network, (4, 2), generator=_generator())
    for rank in range(2):
        process(rank, 2)
        assert own_places(3) == [rank, rank + 2, rank + 4]
        assert torch.equal(own_noise(image[:3], 0, "noise", 4), noise[rank::2])
        for own, every in zip(own_masks(network, 3, generator=_generator(), passes=2), masks, strict=True):
            assert torch.equal(own.unflatten(0, (2, 3)), every.unflatten(0, (2, 6))[:, rank::2])
        for own, every in zip(stream_masks(network, (2, 1), generator=_generator()), streams, strict=True):
            assert torch.equal(own, torch.cat([every[:4][rank::2], every[4:][rank::2]]))


def test_noise_depends_on_key_and_place() -> None:
    image = torch.zeros(2, 1, 8, 8, 8)
    first, other = own_noise(image, 0, 4), own_noise(image, 0, 5)
    assert torch.equal(first, own_noise(image, 0, 4))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, other)


def test_a_network_without_dropout_needs_no_masks_and_an_empty_stream_none() -> None:
    assert stream_masks(nn.Linear(1, 1), (2, 0), generator=_generator()) == []
