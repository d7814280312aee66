"""Random draws for the samples of this process out of those of all, so that several processes do what one would."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medssl.core.seeding import derive_seed
from medssl.networks.channel_dropout import HasModules, draw_masks
from medssl.training.distributed import process_count, process_rank


def own_places(samples: int) -> list[int]:
    """Return the places of this process's samples in the batch of all: r, r + W, ..., as `StreamSampler` deals them."""
    count, rank = process_count(), process_rank()
    return [rank + count * number for number in range(samples)]


def own_masks(network: HasModules, samples: int, *, generator: torch.Generator, passes: int = 1) -> list[Tensor]:
    """Draw the masks of all processes and return those of this one's samples, (passes * samples, C) for each dropout.

    A sample's masks then depend on its place in the batch of all processes alone.
    """
    masks = draw_masks(network, passes * samples * process_count(), generator=generator)
    places = own_places(samples)
    return [mask.unflatten(0, (passes, -1))[:, places].flatten(0, 1) for mask in masks]


def stream_masks(network: HasModules, streams: Sequence[int], *, generator: torch.Generator) -> list[Tensor]:
    """Return the masks of crops of several streams, one stream after the other, (B, C) for each dropout.

    Args:
        network: Network with `ChannelDropout` modules.
        streams: Crops of each stream in this process; masks are drawn stream by stream.
        generator: Same state in all processes.
    """
    drawn = [own_masks(network, count, generator=generator) for count in streams if count]
    return [torch.cat(of_streams) for of_streams in zip(*drawn, strict=True)]


def keyed_generator(*key: int | str) -> torch.Generator:
    """Return a generator that nothing else in the run draws from."""
    return torch.Generator().manual_seed(derive_seed(*key))


def own_noise(image: Tensor, *key: int | str) -> Tensor:
    """Return standard normal noise of the shape of (B, C, X, Y, Z) on its device; key and place alone decide."""
    generators = [keyed_generator(*key, place) for place in own_places(len(image))]
    noise = [torch.randn(image.shape[1:], generator=generator) for generator in generators]
    return torch.stack(noise).to(image.device)
