"""MONAI's UNet in the three parts of the encoder contract."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.networks.layers.simplelayers import SkipConnection
from monai.networks.nets import UNet
from torch import Tensor, nn

from medssl.networks.channel_dropout import ChannelDropout
from medssl.networks.pretrained import check_decoder_blocks
from medssl.networks.split import TailOfModules


class SplitUNet(TailOfModules, UNet):
    """MONAI's residual UNet in three parts; weights have the names of the stock network and fit it both ways.

    Its first convolution has a stride, so full resolution is met in the last decoder block alone, which is the tail: it
    costs less than a SegResNet of the same size, and passes with dropout are cheap.

    Args:
        in_channels: Image channels.
        out_channels: Classes, background included.
        channels: Channels of each level.
        strides: Down-sampling between levels.
        num_res_units: Convolutions of a residual unit.
        norm: Normalisation as MONAI writes it.
        dropout_rate: Share of channels dropped before the last decoder block.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 2,
        channels: Sequence[int] = (24, 48, 96, 160),
        strides: Sequence[int] = (2, 2, 2),
        num_res_units: int = 2,
        norm: Any = ("instance", {"affine": True}),
        dropout_rate: float = 0.3,
    ) -> None:
        super().__init__(
            spatial_dims=3,
            in_channels=in_channels,
            out_channels=out_channels,
            channels=tuple(channels),
            strides=tuple(strides),
            num_res_units=num_res_units,
            norm=norm if isinstance(norm, str) else (norm[0], dict(norm[1])),
        )
        stride = 1
        for each in strides:
            stride *= each
        self.strides = (stride, stride, stride)  # of the whole, as the contract has it; MONAI keeps those of levels
        self.kernel_dimensions = 3
        self.decoder_depth = len(channels) - 2
        self.channel_dropout = ChannelDropout(2 * channels[0], rate=dropout_rate)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the features of every level, shallow to deep."""
        features = []
        for module in self.encoder_modules():
            image = module(image)
            features.append(image)
        return features

    def encoder_modules(self) -> list[nn.Module]:
        """Return the modules that `encode` runs."""
        levels, bottom = self._levels()
        return [*(down for down, _ in levels), bottom]

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return what the last decoder block sees, at the first level's resolution."""
        return torch.cat([features[0], self.decode_blocks(features, self.decoder_depth)], dim=1)

    def decode_blocks(self, features: list[Tensor], blocks: int) -> Tensor:
        """Return the features behind the first `blocks` decoder blocks, the deepest first; 0 gives the encoder's."""
        check_decoder_blocks(self, blocks)
        decoded = features[-1]
        skips = features[-2::-1]
        for up, skip in zip(self.decoder_modules(blocks), skips[:blocks], strict=True):
            decoded = up(torch.cat([skip, decoded], dim=1))
        return decoded

    def decoder_modules(self, blocks: int) -> list[nn.Module]:
        """Return the modules that `decode_blocks` runs."""
        levels, _ = self._levels()
        return [up for _, up in levels[:0:-1]][:blocks]

    def tail_modules(self) -> list[nn.Module]:
        """Return dropout and the last decoder block."""
        return [self.channel_dropout, self._levels()[0][0][1]]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, X, Y, Z)."""
        return self.tail(self.decode(self.encode(image)))

    def _levels(self) -> tuple[list[tuple[nn.Module, nn.Module]], nn.Module]:
        """Return (down, up) of each level, shallow to deep, and the bottom, out of MONAI's nesting."""
        levels, node = [], self.model
        while isinstance(node, nn.Sequential) and len(node) == 3 and isinstance(node[1], SkipConnection):
            levels.append((node[0], node[2]))
            node = node[1].submodule
        return levels, node
