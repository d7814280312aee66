"""A U-shaped network whose encoder attends in cross-shaped stripes, for isotropic volumes and for few thick slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, cat, is_grad_enabled, nn
from torch.overrides import handle_torch_function, has_torch_function_unary
from torch.utils.checkpoint import checkpoint

from medssl.core.errors import ConfigError
from medssl.networks.channel_dropout import ChannelDropout
from medssl.networks.channels_last import InstanceNorm3d, PointwiseConv3d
from medssl.networks.cswin_attention import CrossShapedBlock, Family, Lepe, Window, stripe_windows
from medssl.networks.split import TailOfModules, check_dropout_place, image_too_small

Step = tuple[int, int, int]
SizeName = Literal["tiny", "small", "base"]


@dataclass(frozen=True)
class _Size:
    """Widths and depths: `dims` of the four stages, `outer` of the levels above them, shallow to deep.

    Without `outer`, half the width of the first stage and all of it; without `heads`, those of the family.
    """

    dims: tuple[int, ...]
    depths: tuple[int, ...]
    outer: tuple[int, ...] = ()
    heads: tuple[int, ...] = ()


SIZES: dict[SizeName, _Size] = {
    "tiny": _Size((24, 48, 96, 192), (2, 2, 6, 3)),
    "small": _Size((48, 96, 192, 384), (2, 2, 6, 3)),
    "base": _Size((96, 192, 384, 768), (2, 2, 6, 3)),
}
_HEADS: dict[Family, tuple[int, ...]] = {"lines": (3, 6, 12, 24), "slabs": (2, 4, 8, 16)}
_STEPS: dict[Family, tuple[Step, ...]] = {
    "lines": ((2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)),
    "slabs": ((2, 2, 1), (2, 2, 1), (2, 2, 1), (2, 2, 2), (2, 2, 2)),
}
_STAGES = 4
_SLAB_DEPTH = 20
_USUAL_STEP, _LARGEST_STEP, _WIDE = 2, 4, 7  # the kernel of a larger step, as in the original
# With the usual slope of 0.01 a class whose voxels were negative in all channels at full resolution, which are few, was
# never learnt
_SLOPE = 0.1


class CSwinUNet(TailOfModules, nn.Module):
    """Encode with cross-shaped window attention and decode with convolutions at every scale.

    Images may have any size: each step rounds the grid up, and the decoder cuts every map back to the grid it came
    from, so no voxel is invented and the output lies on the image voxel by voxel.

    Args:
        in_channels: Image channels.
        out_channels: Classes, background included.
        size: "tiny", "small" or "base"; `cswin_cost.size_table` counts parameters and work of each.
        family: "lines" for isotropic volumes: every stage sees three axes, and every step halves them. "slabs" for few
            thick slices, as in prostate MRI: Z are the slices, three of five steps halve the plane only, and a
            stripe holds all slices, or many.
        dims: Channels of the four stages, instead of those of the size.
        depths: Blocks of the four stages, instead of those of the size.
        heads: Heads of the four stages; by default 3, 6, 12, 24 for lines and 2, 4, 8, 16 for slabs.
        outer_channels: Channels at full and half resolution, above the stages, instead of those of the size.
        strides: What each step from the image to the last stage divides X, Y and Z by, instead of those of the family:
            one or two steps to the first stage, then three between the stages. ((4, 4, 1), (2, 2, 1), (2, 2, 2),
            (2, 2, 2)) reaches the first stage in one step, as the two-dimensional original does; ((2, 2, 1), (2, 2, 2),
            (2, 2, 2), (2, 2, 1)) are those of a public Swin UNETR for bpMRI.
        stripes: Width of the stripes of each stage in tokens; 0 is full attention.
        slab_depth: Most slices of a slab, 0 is all of them; by default 20 for slabs, the slices of a published exam.
            More slices are shared evenly, 32 as twice 16.
        lepe: Whether the convolution of values ends at the stripe, "window", or at the map, "map".
        mask_padding: Whether tokens that only fill up the last stripe are masked.
        dropout_rate: Share of channels dropped.
        dropout_place: "last_block" drops channels before the last block, so that block and the output layer are the
            tail; "head" drops them before the final 1 x 1 x 1 convolution, which alone is the tail.
        drop_path_rate: Largest probability that a sample skips a branch of a block, growing from 0 with depth. In
            training mode the encoder is then random too.
        foreground_prior: Share of voxels that are not background, 0 to 1; the output layers start from it. Without it a
            network for rare lesions spends its first thousand steps on calling everything background.
        deep_supervision: Return logits of the two next levels too, in training mode only.
        checkpoint_blocks: Compute the blocks of the encoder again in the backward pass instead of keeping their maps.

    Raises:
        ConfigError: If an option is unknown or does not fit.

    Note:
        Source: Li et al., Med Phys 2025 (CSwin UNet) for the encoder's attention, the U shape and the task; it does
        not publish sizes. Hatamizadeh et al., 2022 (Swin UNETR) for the decoder, here without its blocks on the inner
        skips. Sizes, stem and strides are ours.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 2,
        size: SizeName = "small",
        family: Family = "lines",
        dims: Sequence[int] | None = None,
        depths: Sequence[int] | None = None,
        heads: Sequence[int] | None = None,
        outer_channels: Sequence[int] | None = None,
        strides: Sequence[Sequence[int]] | None = None,
        stripes: Sequence[int] = (1, 2, 4, 0),
        slab_depth: int | None = None,
        lepe: Lepe = "window",
        mask_padding: bool = True,
        dropout_rate: float = 0.3,
        dropout_place: Literal["last_block", "head"] = "last_block",
        drop_path_rate: float = 0.0,
        foreground_prior: float | None = None,
        deep_supervision: bool = False,
        checkpoint_blocks: bool = False,
    ) -> None:
        super().__init__()
        check_dropout_place(dropout_place)
        slab_depth = (_SLAB_DEPTH if family == "slabs" else 0) if slab_depth is None else slab_depth
        _check(family, stripes, slab_depth=slab_depth, out_channels=out_channels, drop_path_rate=drop_path_rate)
        shape = _shape(size, family, dims=dims, depths=depths, heads=heads, outer=outer_channels)
        steps = _STEPS[family] if strides is None else _steps(strides)
        self.steps = steps
        self.strides = _product(steps)
        self.dropout_place = dropout_place
        self.deep_supervision = deep_supervision
        self.checkpoint_blocks = checkpoint_blocks
        stem_steps = len(steps) - _STAGES + 1
        widths = [*shape.outer[:stem_steps], *shape.dims]
        self.stem = _stem(in_channels, widths[1 : stem_steps + 1], steps[:stem_steps])
        windows = [stripe_windows(family, stripe=stripe, slab_depth=slab_depth) for stripe in stripes]
        self._add_stages(shape, windows, drop_path_rate, lepe=lepe, mask_padding=mask_padding)
        self.down = nn.ModuleList(
            _Down(before, after, step)
            for before, after, step in zip(shape.dims, shape.dims[1:], steps[stem_steps:], strict=False)
        )
        self._add_decoder(in_channels, widths, steps)
        self.kernel_dimensions = 3
        # The last level belongs to the tail, or is made of the image itself
        self.decoder_depth = len(self.up) - 1
        dropped = widths[0] if dropout_place == "head" else 2 * widths[0]
        self.channel_dropout = ChannelDropout(dropped, rate=dropout_rate)
        self.head = PointwiseConv3d(widths[0], out_channels)
        self.side_heads = nn.ModuleList(
            PointwiseConv3d(width, out_channels) for width in (widths[1:3] if deep_supervision else [])
        )
        if foreground_prior is not None:
            for head in (self.head, *self.side_heads):
                _start_from(head, foreground_prior)

    def _add_stages(
        self,
        shape: _Size,
        windows: Sequence[Sequence[Window]],
        drop_path_rate: float,
        *,
        lepe: Lepe,
        mask_padding: bool,
    ) -> None:
        last = max(1, sum(shape.depths) - 1)
        self.stages, self.norms = nn.ModuleList(), nn.ModuleList()
        index = 0
        for channels, depth, heads, stripes in zip(shape.dims, shape.depths, shape.heads, windows, strict=True):
            blocks = nn.ModuleList()
            for _ in range(depth):
                block = CrossShapedBlock(
                    channels,
                    windows=stripes,
                    heads=heads,
                    drop_path_rate=drop_path_rate * index / last,
                    lepe=lepe,
                    mask_padding=mask_padding,
                )
                blocks.append(block)
                index += 1
            self.stages.append(blocks)
            self.norms.append(nn.LayerNorm(channels))

    def _add_decoder(self, in_channels: int, widths: list[int], steps: Sequence[Step]) -> None:
        shallow_to_deep = list(zip(widths, widths[1:], steps, strict=False))
        self.skip = nn.Sequential(*_convolution(in_channels, widths[0]), *_convolution(widths[0], widths[0]))
        self.up = nn.ModuleList(
            nn.ConvTranspose3d(after, before, step, stride=step, bias=False)
            for before, after, step in reversed(shallow_to_deep)
        )
        self.blocks = nn.ModuleList(_ResidualBlock(2 * before, before) for before, _, _ in reversed(shallow_to_deep))

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the image and the features of every level below it, shallow to deep.

        Raises:
            ConfigError: If the image is so small that a level would hold one voxel.
        """
        if has_torch_function_unary(image):  # see forward
            image = image.as_subclass(Tensor)
        self._require_voxels(image)
        features, deep = [image], image
        for stem in self.stem:
            deep = stem(deep)
            features.append(deep)
        features.pop()
        tokens = deep.permute(0, 2, 3, 4, 1)
        for level, (blocks, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            if level:
                tokens = self.down[level - 1](tokens)
            for block in blocks.children():
                tokens = self._run(block, tokens)
            features.append(norm(tokens).permute(0, 4, 1, 2, 3))
        return features

    def _require_voxels(self, image: Tensor) -> None:
        """Refuse an image of which one voxel is left before the last step; norms over voxels would have one only."""
        extent = list(image.shape[2:])
        for step in self.steps[:-1]:
            extent = [-(-size // side) for size, side in zip(extent, step, strict=True)]
        if max(extent) == 1:
            raise image_too_small(self, image)

    def _run(self, block: nn.Module, tokens: Tensor) -> Tensor:
        if self.checkpoint_blocks and self.training and is_grad_enabled():
            return checkpoint(block, tokens, use_reentrant=False)
        return block(tokens)

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return (B, F, X, Y, Z) at full resolution, the input of the tail."""
        return self._decode(features)[-1]

    def _decode(self, features: list[Tensor]) -> list[Tensor]:
        """Return the maps of every level of the decoder, deep to shallow; the last is the input of the tail."""
        skips = [self.skip(features[0]), *features[1:-1]]
        maps, last = [features[-1]], len(self.up) - 1
        for level, block in enumerate(self.blocks):
            joined = self._joined(level, maps[-1], skips[-1 - level])
            maps.append(block(joined) if level < last or self.dropout_place == "head" else joined)
        return maps

    def decode_blocks(self, features: list[Tensor], blocks: int) -> Tensor:
        """Return the features behind the first decoder blocks, the deepest first; 0 are the deepest features."""
        deep = features[-1]
        for level in range(blocks):
            deep = self.blocks[level](self._joined(level, deep, features[-2 - level]))
        return deep

    def _joined(self, level: int, deep: Tensor, skip: Tensor) -> Tensor:
        """Return the input of a decoder block: the deeper map enlarged, and its skip beside it."""
        return cat((_cut(self.up[level](deep), skip), skip), dim=1)

    def encoder_modules(self) -> list[nn.Module]:
        """Return the modules that `encode` runs."""
        return [self.stem, self.stages, self.norms, self.down]

    def decoder_modules(self, blocks: int) -> list[nn.Module]:
        """Return the modules that `decode_blocks` runs."""
        return [*self.up[:blocks], *self.blocks[:blocks]]

    def tail_modules(self) -> list[nn.Module]:
        """Return the modules of the tail in the order they run."""
        if self.dropout_place == "head":
            return [self.channel_dropout, self.head]
        return [self.channel_dropout, self.blocks[-1], self.head]

    def forward(self, image: Tensor) -> Tensor | list[Tensor]:
        """Return logits (B, K, X, Y, Z); with deep supervision in training mode a list, finest first."""
        if has_torch_function_unary(image):
            # MONAI's tensors carry what they were made from, and take one apart into stripes for images of a batch: so
            # once around all of it, as around a function of torch
            return handle_torch_function(self.forward, (image,), image)
        maps = self._decode(self.encode(image))
        logits = self.tail(maps[-1])
        if not (self.training and self.deep_supervision):
            return logits
        return [logits, *(head(each) for head, each in zip(self.side_heads, maps[-2::-1], strict=False))]


class _ResidualBlock(nn.Module):
    """Two convolutions, added to what a 1 x 1 x 1 convolution makes of their input, as in Swin UNETR."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(*_convolution(before, after), *_convolution(after, after)[:-1])
        self.shortcut = nn.Sequential(PointwiseConv3d(before, after, bias=False), InstanceNorm3d(after))
        self.activation = nn.LeakyReLU(_SLOPE, inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        return self.activation(self.conv(maps).add_(self.shortcut(maps)))


class _Down(nn.Module):
    """Strided convolution between stages, (B, X, Y, Z, C) to (B, X', Y', Z', C'), and a LayerNorm."""

    def __init__(self, before: int, after: int, step: Step) -> None:
        super().__init__()
        self.conv = nn.Conv3d(before, after, 3, stride=step, padding=1)
        self.norm = nn.LayerNorm(after)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.norm(self.conv(tokens.permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1))


def _convolution(before: int, after: int) -> list[nn.Module]:
    """Return a convolution that keeps the size, with its norm and activation."""
    convolution = nn.Conv3d(before, after, 3, padding=1, bias=False)
    return [convolution, InstanceNorm3d(after), nn.LeakyReLU(_SLOPE, inplace=True)]


def _stem(in_channels: int, widths: Sequence[int], steps: Sequence[Step]) -> nn.ModuleList:
    stem, before = nn.ModuleList(), in_channels
    for width, step in zip(widths, steps, strict=True):
        x, y, z = (_WIDE if side > _USUAL_STEP else 3 for side in step)  # no voxel may fall between two places
        conv = nn.Conv3d(before, width, (x, y, z), stride=step, padding=(x // 2, y // 2, z // 2), bias=False)
        stem.append(nn.Sequential(conv, InstanceNorm3d(width), nn.GELU()))
        before = width
    return stem


def _cut(finer: Tensor, skip: Tensor) -> Tensor:
    """Cut an enlarged map back to the grid of its skip; a step had rounded that grid up."""
    if finer.shape[2:] == skip.shape[2:]:
        return finer
    return finer[:, :, : skip.shape[2], : skip.shape[3], : skip.shape[4]]


def _start_from(head: nn.Conv3d, prior: float) -> None:
    """Let an output layer begin with the background's log-odds at a share of foreground (Lin et al., ICCV 2017)."""
    if not 0 < prior < 1 or head.bias is None:
        message = f"CSwinUNet: foreground_prior: expected a share between 0 and 1, got {prior}."
        raise ConfigError(message)
    nn.init.zeros_(head.bias)
    with torch.no_grad():
        head.bias[0] = math.log((1 - prior) / prior * (head.out_channels - 1))


def _steps(strides: Sequence[Sequence[int]]) -> tuple[Step, ...]:
    """Return the caller's steps.

    Raises:
        ConfigError: If their number or sizes do not fit.
    """
    found = [tuple(step) for step in strides]
    between = _STAGES - 1
    sizes = [range(1, _USUAL_STEP + 1)] * between
    sizes = [range(1, _LARGEST_STEP + 1)] * (len(found) - between) + sizes
    fit = len(found) - between in (1, 2) and all(len(step) == 3 for step in found)
    if not fit or any(side not in allowed for step, allowed in zip(found, sizes, strict=True) for side in step):
        message = (
            f"CSwinUNet: strides: expected {_STAGES} or {_STAGES + 1} steps of three numbers, from 1 to {_USUAL_STEP}, "
            f"before the first stage to {_LARGEST_STEP}, got {[list(step) for step in found]}."
        )
        raise ConfigError(message)
    return tuple((x, y, z) for x, y, z in found)


def _product(steps: Sequence[Step]) -> Step:
    x, y, z = 1, 1, 1
    for step in steps:
        x, y, z = x * step[0], y * step[1], z * step[2]
    return x, y, z


def _shape(size: str, family: Family, **own: Sequence[int] | None) -> _Size:
    """Return the widths and depths of a size, with those of the caller in their place."""
    if size not in SIZES:
        message = f"CSwinUNet: unknown size {size!r}; the sizes are {', '.join(SIZES)}."
        raise ConfigError(message)
    chosen = SIZES[size]
    usual = {"heads": _HEADS[family], "outer": (chosen.dims[0] // 2, chosen.dims[0])}
    given = {name: tuple(values) for name, values in own.items() if values is not None}
    for name, values in given.items():
        wanted = len(usual["outer"]) if name == "outer" else _STAGES
        if len(values) != wanted or min(values) < 1:
            shown = "outer_channels" if name == "outer" else name
            message = f"CSwinUNet: {shown}: expected {wanted} numbers from 1, got {list(values)}."
            raise ConfigError(message)
    return replace(chosen, **{**usual, **given})


def _check(family: str, stripes: Sequence[int], *, slab_depth: int, out_channels: int, drop_path_rate: float) -> None:
    if family not in _STEPS:
        message = f'CSwinUNet: family: expected "lines" or "slabs", got {family!r}.'
    elif len(stripes) != _STAGES:
        message = f"CSwinUNet: stripes: expected {_STAGES} widths, one for each stage, got {list(stripes)}."
    elif family == "lines" and slab_depth:
        message = f'CSwinUNet: slab_depth: expected 0 for family "lines", which has no slabs, got {slab_depth}.'
    elif out_channels < 1:
        message = f"CSwinUNet: out_channels: expected 1 or more classes, got {out_channels}."
    elif not 0 <= drop_path_rate < 1:
        message = f"CSwinUNet: drop_path_rate: expected a probability below 1, got {drop_path_rate}."
    else:
        return
    raise ConfigError(message)
