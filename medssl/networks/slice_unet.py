"""A 2D U-Net that takes volumes slice by slice: trained on slices, it serves wherever volumes are expected."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn

from medssl.networks.channel_dropout import ChannelDropout
from medssl.networks.split import TailOfModules


class SliceUNet(TailOfModules, nn.Module):
    """Segment every slice (X, Y) of a volume (B, C, X, Y, Z) on its own, with 2D convolutions.

    Slices become samples inside each block, so a window of any depth gives what its slices give one by one.
    Six levels halve the plane five times: every side is a multiple of 32 (fewer `channels` need less).

    Args:
        in_channels: Image channels.
        out_channels: Classes, background included.
        channels: Channels of each level of the encoder, shallow to deep; the decoder mirrors them.
        norm: Normalisation as MONAI writes it; published is ["batch", {"eps": 0.001, "momentum": 0.01}]. Instance
            normalisation keeps no running statistics, which differ between stages and processes.
        dropout_rate: Share of channels dropped before the output layers; published is none.

    Note:
        Source: Chaitanya et al., NeurIPS 2020, and its code: two 3 x 3 convolutions a level; nearest-neighbour
        enlargement with a 2 x 2 convolution; the last decoder block has one convolution, the output layers three.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 2,
        channels: Sequence[int] = (16, 32, 64, 128, 128, 128),
        norm: Any = ("instance", {"affine": True}),
        dropout_rate: float = 0.0,
    ) -> None:
        super().__init__()
        stride = 2 ** (len(channels) - 1)
        self.strides = (stride, stride, 1)
        self.kernel_dimensions = 2
        self.decoder_depth = len(channels) - 1
        widths = (in_channels, *channels)
        self.encoder = nn.ModuleList(
            OverSlices(
                *([nn.MaxPool2d(2)] if level else []),
                *_convolution(widths[level], width, norm),
                *_convolution(width, width, norm),
            )
            for level, width in enumerate(channels)
        )
        upward = list(channels)[::-1]
        self.decoder = nn.ModuleList(
            _UpBlock(deep, width, norm, convolutions=1 if level == self.decoder_depth - 1 else 2)
            for level, (deep, width) in enumerate(itertools.pairwise(upward))
        )
        first = channels[0]
        self.channel_dropout = ChannelDropout(first, rate=dropout_rate)
        self.head = OverSlices(
            *_convolution(first, first, norm),
            *_convolution(first, first, norm),
            nn.Conv2d(first, out_channels, 3, padding=1),
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the features of every level, shallow to deep."""
        features = []
        for level in self.encoder:
            image = level(image)
            features.append(image)
        return features

    def decode_blocks(self, features: list[Tensor], blocks: int) -> Tensor:
        """Return (B, F, x, y, Z) behind the first `blocks` decoder blocks."""
        deep = features[-1]
        for block, skip in zip(self.decoder[:blocks], features[-2::-1], strict=False):
            deep = block(deep, skip)
        return deep

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return (B, F, X, Y, Z) at full resolution, the input of the tail."""
        return self.decode_blocks(features, self.decoder_depth)

    def encoder_modules(self) -> list[nn.Module]:
        """Return the modules that `encode` runs."""
        return [self.encoder]

    def decoder_modules(self, blocks: int) -> list[nn.Module]:
        """Return the modules that `decode_blocks` runs."""
        return list(self.decoder[:blocks])

    def tail_modules(self) -> list[nn.Module]:
        """Return the modules of the tail in the order they run."""
        return [self.channel_dropout, self.head]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, X, Y, Z)."""
        return self.tail(self.decode(self.encode(image)))


class OverSlices(nn.Sequential):
    """Run 2D modules on every slice of (B, C, X, Y, Z)."""

    def forward(self, volume: Tensor) -> Tensor:
        """Return (B, C', x, y, Z)."""
        slices = volume.movedim(-1, 1)
        found = super().forward(slices.flatten(0, 1))
        return found.unflatten(0, slices.shape[:2]).movedim(1, -1)


class _UpBlock(nn.Module):
    """Enlarge twice in the plane, join with the encoder's features, convolve."""

    def __init__(self, deep: int, width: int, norm: Any, *, convolutions: int) -> None:
        super().__init__()
        self.up = OverSlices(nn.Upsample(scale_factor=2, mode="nearest"), *_convolution(deep, width, norm, extent=2))
        layers = [
            layer for number in range(convolutions) for layer in _convolution(width * (1 + (not number)), width, norm)
        ]
        self.block = OverSlices(*layers)

    def forward(self, deep: Tensor, skip: Tensor) -> Tensor:
        return self.block(torch.cat([self.up(deep), skip], dim=1))


def _convolution(channels: int, width: int, norm: Any, *, extent: int = 3) -> list[nn.Module]:
    """Return a convolution that keeps the size, with norm and ReLU."""
    kind: str | Sequence[Any] = norm if isinstance(norm, str) else (norm[0], dict(norm[1]))
    layer = get_norm_layer(name=kind, spatial_dims=2, channels=width)
    # An even kernel keeps the size with one more row and column at the end
    around: list[nn.Module] = [nn.ZeroPad2d((0, 1, 0, 1))] if extent == 2 else []
    padding = 0 if extent == 2 else extent // 2
    return [*around, nn.Conv2d(channels, width, extent, padding=padding, bias=False), layer, nn.ReLU(inplace=True)]
