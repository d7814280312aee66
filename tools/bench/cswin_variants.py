"""CSwin UNets that differ from the one chosen in one point: what was tried on the way, to time and to train.

A bundle takes one by `"_target_": "cswin_variants.with_skip_blocks"`, with this folder on PYTHONPATH.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from monai.networks.blocks.dynunet_block import UnetResBlock
from torch import Tensor, nn

from medssl.networks import cswin_attention
from medssl.networks.cswin_unet import SIZES, CSwinUNet

# Channels at full and half resolution: as wide as Swin UNETR with 12 features, and one vector block
SIZES["twelve"] = replace(SIZES["tiny"], outer=(12, 24))  # type: ignore[index]
SIZES["sixteen"] = replace(SIZES["tiny"], outer=(16, 16))  # type: ignore[index]


class WithSkipBlocks(CSwinUNet):
    """The decoder as Swin UNETR has it: a residual block on every skip."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        widths = [block.conv2.conv.out_channels for block in reversed(self.blocks)][1:]
        self.skip_blocks = nn.ModuleList(UnetResBlock(3, width, width, 3, 1, "instance") for width in widths)

    def decode(self, features: list[Tensor]) -> Tensor:
        inner = [block(each) for block, each in zip(self.skip_blocks, features[1:-1], strict=True)]
        return super().decode([features[0], *inner, features[-1]])

    def forward(self, image: Tensor) -> Tensor:
        return self.tail(self.decode(self.encode(image)))


class ChannelsFirst(nn.Module):
    """LePE with the channels first in memory, as convolutions usually have them."""

    def __init__(self, stripe: nn.Module) -> None:
        super().__init__()
        self.weight, self.bias, self.around = stripe.weight, stripe.bias, stripe.around

    def forward(self, values: Tensor) -> Tensor:
        first = values.permute(0, 4, 1, 2, 3).contiguous()
        out = nn.functional.conv3d(first, self.weight, self.bias, padding=self.around, groups=len(self.weight))
        return out.permute(0, 2, 3, 4, 1)


def lepe_channels_first(**options: Any) -> nn.Module:
    network = CSwinUNet(**options)
    for module in network.modules():
        if isinstance(module, cswin_attention.CrossShapedAttention):
            module.lepe = nn.ModuleList(ChannelsFirst(stripe) for stripe in module.lepe)
    return network


def lepe_unturned(**options: Any) -> nn.Module:
    network = CSwinUNet(**options)
    for module in network.modules():
        if hasattr(module, "turned"):
            module.turned = False
    return network


twelve_outside = partial(CSwinUNet, size="twelve")
sixteen_outside = partial(CSwinUNet, size="sixteen")
with_skip_blocks = partial(WithSkipBlocks, size="tiny")
unmodified = partial(WithSkipBlocks, size="twelve")
thin_stripes = partial(CSwinUNet, size="tiny", stripes=(1, 1, 1, 0))
wide_stripes = partial(CSwinUNet, size="tiny", stripes=(2, 4, 4, 0))
lines = partial(CSwinUNet, size="tiny")
slabs = partial(CSwinUNet, size="tiny", family="slabs")
slabs_of_4 = partial(slabs, slab_depth=4)
slabs_of_1 = partial(slabs, slab_depth=1)
slabs_unmodified = partial(WithSkipBlocks, size="twelve", family="slabs")
