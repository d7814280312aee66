"""CSwin UNets that differ from the one chosen in one point: what was tried on the way, to time and to train.

A bundle takes one by `"_target_": "cswin_variants.with_skip_blocks"`, with this folder on PYTHONPATH.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from monai.networks.blocks.dynunet_block import UnetBasicBlock, UnetResBlock
from torch import Tensor, nn

from medssl.networks import cswin_attention
from medssl.networks.channel_dropout import ChannelDropout
from medssl.networks.channels_last import InstanceNorm3d, PointwiseConv3d
from medssl.networks.cswin_unet import CSwinUNet, _convolution, _cut, _ResidualBlock

_NORM = ("instance", {"affine": True})
_ACTIVATION = ("leakyrelu", {"inplace": True, "negative_slope": 0.1})
# Channels at full and half resolution: narrow, as wide as Swin UNETR with 12 features, and two vectors of eight
_EIGHT, _TWELVE, _SIXTEEN = (8, 16), (12, 24), (16, 16)


class WithSkipBlocks(CSwinUNet):
    """The decoder as Swin UNETR has it: a residual block on every skip."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        widths = [block.conv[0].out_channels for block in reversed(self.blocks)][1:]
        self.skip_blocks = nn.ModuleList(UnetResBlock(3, width, width, 3, 1, "instance") for width in widths)

    def decode(self, features: list[Tensor]) -> Tensor:
        inner = [block(each) for block, each in zip(self.skip_blocks, features[1:-1], strict=True)]
        return super().decode([features[0], *inner, features[-1]])

    def forward(self, image: Tensor) -> Tensor:
        return self.tail(self.decode(self.encode(image)))


class FlatOutside(CSwinUNet):
    """Convolutions of one slice at full resolution, `flat_levels` 1, and at half resolution too, 2."""

    def __init__(self, *, flat_levels: int = 1, in_channels: int = 1, **options: Any) -> None:
        super().__init__(in_channels=in_channels, **options)
        flat = (3, 3, 1)
        shallow = range(-1, -1 - flat_levels, -1)
        widths = [self.blocks[level].conv[0].out_channels for level in shallow]
        self.skip = UnetBasicBlock(3, in_channels, widths[0], flat, 1, _NORM, act_name=_ACTIVATION)
        for level, width in zip(shallow, widths, strict=True):
            self.blocks[level] = UnetResBlock(3, 2 * width, width, flat, 1, _NORM, act_name=_ACTIVATION)


class SingleSkip(CSwinUNet):
    """One convolution of the image for the skip at full resolution, instead of two."""

    def __init__(self, *, in_channels: int = 1, **options: Any) -> None:
        super().__init__(in_channels=in_channels, **options)
        width = self.blocks[-1].conv[0].out_channels
        self.skip = _single_convolution(in_channels, width)


class AddedSkips(CSwinUNet):
    """Skips above the stages are added to the enlarged map, not set beside it; `single` as in `SingleSkip`."""

    def __init__(self, *, single: bool = False, in_channels: int = 1, **options: Any) -> None:
        super().__init__(in_channels=in_channels, **options)
        widths = [block.conv[0].out_channels for block in self.blocks]
        for level in self._added():
            self.blocks[level] = _ResidualBlock(widths[level], widths[level])
            self.blocks[level].shortcut = nn.Identity()
        self.channel_dropout = ChannelDropout(widths[-1], rate=options.get("dropout_rate", 0.3))
        if single:
            self.skip = _single_convolution(in_channels, widths[-1])

    def _added(self) -> range:
        return range(len(self.blocks) - len(self.stem), len(self.blocks))

    def _joined(self, level: int, deep: Tensor, skip: Tensor) -> Tensor:
        if level not in self._added():
            return super()._joined(level, deep, skip)
        return _cut(self.up[level](deep), skip) + skip


class Unturned(nn.Module):
    """LePE on stripes as they lie, also on those that are long in X only."""

    def __init__(self, stripe: nn.Module) -> None:
        super().__init__()
        given = stripe.convolution
        kernel = given.weight.transpose(2, 4) if stripe.turned else given.weight
        width = len(kernel)
        self.convolution = nn.Conv3d(width, width, tuple(kernel.shape[2:]), padding="same", groups=width)
        self.convolution.load_state_dict({"weight": kernel, "bias": given.bias})

    def forward(self, values: Tensor) -> Tensor:
        return self.convolution(values.contiguous().permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)


class ChannelsFirst(Unturned):
    """LePE with the channels first in memory, as convolutions usually have them."""

    def forward(self, values: Tensor) -> Tensor:
        return self.convolution(values.permute(0, 4, 1, 2, 3).contiguous()).permute(0, 2, 3, 4, 1)


class SumOfShifts(Unturned):
    """LePE as a sum of shifted values, one for each place of the kernel, without a convolution."""

    def forward(self, values: Tensor) -> Tensor:
        weight, sides = self.convolution.weight, values.shape[1:4]
        around = [side // 2 for side in reversed(weight.shape[2:]) for _ in range(2)]
        padded = nn.functional.pad(values, [0, 0, *around])
        out = self.convolution.bias.expand_as(values)
        for place in itertools.product(*map(range, weight.shape[2:])):
            window = tuple(slice(start, start + side) for start, side in zip(place, sides, strict=True))
            out = torch.addcmul(out, padded[(slice(None), *window)], weight[(slice(None), 0, *place)])
        return out


def _single_convolution(before: int, after: int) -> nn.Module:
    return nn.Sequential(*_convolution(before, after))


def lepe_channels_first(**options: Any) -> nn.Module:
    return _with_lepe(ChannelsFirst, **options)


def lepe_of_shifts(**options: Any) -> nn.Module:
    return _with_lepe(SumOfShifts, **options)


def lepe_unturned(**options: Any) -> nn.Module:
    return _with_lepe(Unturned, **options)


def _with_lepe(kind: type[Unturned], **options: Any) -> nn.Module:
    network = CSwinUNet(**options)
    for module in network.modules():
        if isinstance(module, cswin_attention.CrossShapedAttention):
            module.lepe = nn.ModuleList(kind(stripe) for stripe in module.lepe)
    return network


def with_torch_layers(make: Callable[..., nn.Module], **options: Any) -> nn.Module:
    """Return a network whose norms and 1 x 1 x 1 convolutions are torch's own, which compute the same."""
    network = make(**options)
    for module in network.modules():
        if isinstance(module, InstanceNorm3d):
            module.__class__ = nn.InstanceNorm3d
        elif isinstance(module, PointwiseConv3d):
            module.__class__ = nn.Conv3d
    return network


def with_usual_slope(make: Callable[..., nn.Module], **options: Any) -> nn.Module:
    """Return a network whose activations let 0.01 of what is negative through."""
    network = make(size="tiny", **options)
    for module in network.modules():
        if isinstance(module, nn.LeakyReLU):
            module.negative_slope = 0.01
    return network


def with_small_start(make: Callable[..., nn.Module], **options: Any) -> nn.Module:
    """Return a network whose attention and perceptrons start as in the original: normal of 0.02, no offset."""
    network = make(**options)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
    return network


eight_outside = partial(CSwinUNet, size="tiny", outer_channels=_EIGHT)
twelve_outside = partial(CSwinUNet, size="tiny", outer_channels=_TWELVE)
sixteen_outside = partial(CSwinUNet, size="tiny", outer_channels=_SIXTEEN)
with_skip_blocks = partial(WithSkipBlocks, size="tiny")
unmodified = partial(with_usual_slope, WithSkipBlocks, outer_channels=_TWELVE)
# What was compared while eight channels were the design
lines = eight_outside
usual_slope = partial(with_usual_slope, CSwinUNet, outer_channels=_EIGHT)
thin_stripes = partial(eight_outside, stripes=(1, 1, 1, 0))
slabs = partial(eight_outside, family="slabs", slab_depth=0)
slabs_of_20 = partial(slabs, slab_depth=20)
slabs_of_4 = partial(slabs, slab_depth=4)
slabs_twelve = partial(twelve_outside, family="slabs", slab_depth=0)
slabs_of_20_twelve = partial(slabs_twelve, slab_depth=20)
slabs_of_20_twelve_sixteen = partial(slabs_of_20, outer_channels=(12, 16))
slabs_of_4_twelve = partial(slabs_twelve, slab_depth=4)
slabs_usual_slope = partial(usual_slope, family="slabs", slab_depth=0)
slabs_unmodified = partial(unmodified, family="slabs", slab_depth=0)
slabs_flat_twelve = partial(FlatOutside, size="tiny", family="slabs", outer_channels=_TWELVE)
slabs_flatter_twelve = partial(slabs_flat_twelve, flat_levels=2)
lines_small_start = partial(with_small_start, lines)
lines_twelve = twelve_outside
slabs_small_start = partial(with_small_start, slabs_of_20)
lines_single_skip = partial(SingleSkip, size="tiny", outer_channels=_TWELVE)
slabs_single_skip = partial(lines_single_skip, family="slabs")
lines_added = partial(AddedSkips, size="tiny", outer_channels=_TWELVE)
slabs_added = partial(lines_added, family="slabs")
lines_added_single = partial(lines_added, single=True)
