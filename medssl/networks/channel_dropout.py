"""Dropout of whole channels whose masks can be drawn beforehand and put in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

import torch
from torch import Tensor, nn

from medssl.core.errors import ConfigError


class ChannelDropout(nn.Module):
    """Set whole channels of (B, C, X, Y, Z) to zero and scale the others by 1 / (1 - rate).

    Without given masks it acts as `nn.Dropout3d`: random in training mode, nothing in evaluation mode. With masks
    from `draw_masks`, put in by `fixed_masks`, it applies these in either mode. So K stochastic passes run as one
    batch and equal K single passes with the same masks, and evaluation mode needs no exception for dropout.

    Args:
        channels: Channels of what passes through.
        rate: Probability that a channel is dropped, 0 to below 1.

    Raises:
        ConfigError: If the rate lies outside.
    """

    def __init__(self, channels: int, *, rate: float = 0.3) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            message = f"dropout: expected a rate of at least 0 and below 1, got {rate}."
            raise ConfigError(message)
        self.channels = channels
        self.rate = rate
        self.masks: Tensor | None = None

    def draw(self, samples: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Draw masks (samples, C) of 0 and 1 / (1 - rate), on the CPU, so that every device draws the same."""
        kept = torch.rand(samples, self.channels, generator=generator) >= self.rate
        return kept.float() / (1.0 - self.rate)

    def forward(self, features: Tensor) -> Tensor:
        """Return the features (B, C, X, Y, Z), some channels zero.

        With K * B given masks the output is (K * B, C, X, Y, Z): the batch under K masks, one after another, without a
        copy of the batch for each.
        """
        if self.masks is not None:
            masks = self.masks
        elif self.training and self.rate > 0.0:
            masks = self.draw(features.shape[0])
        else:
            return features
        scale = masks.to(features.device, features.dtype)[..., None, None, None]
        if len(scale) == len(features):  # the gradient of a dimension for one pass would be copied
            return features * scale
        return (features * scale.unflatten(0, (-1, len(features)))).flatten(0, 1)

    def extra_repr(self) -> str:
        """Return channels and rate for the printed network."""
        return f"{self.channels}, rate={self.rate}"


class HasModules(Protocol):
    """Any network: what `nn.Module` offers and protocols of networks repeat."""

    def modules(self) -> Iterator[nn.Module]:
        """Return all modules."""


def channel_dropouts(network: HasModules) -> list[ChannelDropout]:
    """Return the `ChannelDropout` modules of a network in the order of its modules."""
    return [module for module in network.modules() if isinstance(module, ChannelDropout)]


def draw_masks(network: HasModules, samples: int, *, generator: torch.Generator) -> list[Tensor]:
    """Draw masks (samples, C) for every `ChannelDropout` of a network.

    For K passes over a batch of B, draw K * B samples; row k * B + b belongs to pass k of sample b.
    """
    return [dropout.draw(samples, generator=generator) for dropout in channel_dropouts(network)]


@contextmanager
def fixed_masks(network: HasModules, masks: Sequence[Tensor]) -> Iterator[None]:
    """Let a network use these masks in the enclosed passes, in training and in evaluation mode.

    Args:
        network: Network with `ChannelDropout` modules.
        masks: One (K * B, C) for each of them, as `draw_masks` returns; B is the batch that enters.
    """
    dropouts = channel_dropouts(network)
    try:
        for dropout, given in zip(dropouts, masks, strict=True):
            dropout.masks = given
        yield
    finally:
        for dropout in dropouts:
            dropout.masks = None
