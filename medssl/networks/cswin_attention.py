"""Cross-shaped window attention in three dimensions: every group of heads looks along another stripe of the volume."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from medssl.core.errors import ConfigError

Family = Literal["lines", "slabs"]
Lepe = Literal["window", "map"]
Window = tuple[int, int, int]
"""Extent of a stripe along X, Y, Z in tokens; 0 is the whole extent of the map."""

_FAST_HEAD = 16  # zeros behind the numbers of a narrower head make torch's kernel for CPUs faster
_LARGEST_BATCH = 65535  # windows times heads; some attention kernels of GPUs number them with 16 bits


def stripe_windows(family: Family, *, stripe: int, slab_depth: int = 0) -> tuple[Window, ...]:
    """Return the stripes of the groups of heads.

    "lines" is the isotropic form: three groups, each sees the whole extent of one axis and `stripe` tokens along the
    two others. "slabs" is the form for few thick slices, which lie across Z: two groups, each sees the whole extent
    of one in-plane axis, `stripe` tokens along the other and `slab_depth` slices.

    Args:
        family: "lines" or "slabs".
        stripe: Largest width in tokens; 0 makes one group that attends to the whole map.
        slab_depth: Most slices of a slab; 0 is all of them. The work grows with it, memory does not.

    Raises:
        ConfigError: If the family is unknown or a number is negative.
    """
    if family not in {"lines", "slabs"}:
        message = f'family: expected "lines" or "slabs", got {family!r}.'
        raise ConfigError(message)
    if stripe < 0 or slab_depth < 0:
        message = f"stripe and slab_depth: expected 0 or more tokens, got {stripe} and {slab_depth}."
        raise ConfigError(message)
    if stripe == 0:
        return ((0, 0, 0),)
    if family == "slabs":
        return ((0, stripe, slab_depth), (stripe, 0, slab_depth))
    return ((0, stripe, stripe), (stripe, 0, stripe), (stripe, stripe, 0))


class CrossShapedAttention(nn.Module):
    """Attend inside stripes, another one for each group of heads, and mix the groups by one projection.

    softmax(q k' / sqrt(d)) v + LePE(v) in every stripe, where LePE is a depthwise 3 x 3 x 3 convolution of v. Stripes
    share an axis evenly: nine tokens in stripes of at most four are three stripes of three. A map that is no multiple
    of them is padded on both sides after the projection to q, k and v; padded keys are masked, padded queries cut off.
    Without padding there is no mask.

    Memory grows linearly with the tokens of the map, work with the tokens of a stripe on top of it.

    Args:
        channels: C of the map.
        windows: Stripe of each group, from `stripe_windows`.
        heads: Heads of all groups together.
        lepe: Where LePE ends: "window" at the border of the stripe, "map" at that of the map.
        mask_padding: Whether padded keys are masked; if not, they take their share of the softmax, with values of 0.

    Raises:
        ConfigError: If channels or heads do not divide among the groups, or `lepe` is unknown.

    Note:
        Source: Dong et al., CVPR 2022 (CSWin), sections 3.2 and 3.3, in 2D. The third axis, even stripes, masked
        padding and the order of the projection (group, then q, k, v) are ours.
    """

    def __init__(
        self,
        channels: int,
        *,
        windows: Sequence[Window],
        heads: int,
        lepe: Lepe = "window",
        mask_padding: bool = True,
    ) -> None:
        super().__init__()
        groups = len(windows)
        if lepe not in {"window", "map"}:
            message = f'attention: lepe: expected "window" or "map", got {lepe!r}.'
            raise ConfigError(message)
        if channels % heads or heads % groups:
            message = (
                f"attention: expected heads that are a multiple of the {groups} groups and divide {channels} channels, "
                f"got {heads} heads. Change heads or dims."
            )
            raise ConfigError(message)
        self.windows = tuple(windows)
        self.heads = heads // groups
        self.width = channels // groups
        self.qkv = nn.Linear(channels, 3 * channels)
        self.ends_at_stripe = lepe == "window"
        self.mask_padding = mask_padding
        ends = self.windows if self.ends_at_stripe else [(0, 0, 0)] * groups
        self.lepe = nn.ModuleList(_StripeConvolution(self.width, end) for end in ends)
        self.proj = nn.Linear(channels, channels)

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, X, Y, Z, C) from (B, X, Y, Z, C)."""
        parts = self.qkv(features).split(3 * self.width, dim=-1)
        seen = [self._look(*each) for each in zip(parts, self.windows, self.lepe, strict=True)]
        return self.proj(torch.cat(seen, dim=-1) if len(seen) > 1 else seen[0])

    def _look(self, qkv: Tensor, window: Window, lepe: nn.Module) -> Tensor:
        if self.ends_at_stripe:
            return _attend(qkv, window, self.heads, lepe, mask_padding=self.mask_padding)
        seen = _attend(qkv, window, self.heads, mask_padding=self.mask_padding)
        return seen + lepe(qkv[..., 2 * self.width :])


class CrossShapedBlock(nn.Module):
    """Attention and a two-layer perceptron, each after a LayerNorm and with a shortcut.

    Args:
        channels: C of the map.
        windows: Stripe of each group of heads.
        heads: Heads of all groups together.
        expansion: Width of the perceptron in multiples of C.
        drop_path_rate: Probability that a sample skips a branch in training mode.
        lepe: "window" or "map", see `CrossShapedAttention`.
        mask_padding: Whether padded keys are masked.
    """

    def __init__(
        self,
        channels: int,
        *,
        windows: Sequence[Window],
        heads: int,
        expansion: int = 4,
        drop_path_rate: float = 0.0,
        lepe: Lepe = "window",
        mask_padding: bool = True,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attention = CrossShapedAttention(
            channels, windows=windows, heads=heads, lepe=lepe, mask_padding=mask_padding
        )
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, expansion * channels), nn.GELU(), nn.Linear(expansion * channels, channels)
        )
        self.drop_path_rate = drop_path_rate

    def forward(self, features: Tensor) -> Tensor:
        """Return (B, X, Y, Z, C) from (B, X, Y, Z, C)."""
        features = features + self._drop_path(self.attention(self.norm1(features)))
        return features + self._drop_path(self.mlp(self.norm2(features)))

    def _drop_path(self, branch: Tensor) -> Tensor:
        if not self.training or self.drop_path_rate == 0.0:
            return branch
        kept = torch.rand(len(branch), 1, 1, 1, 1, device=branch.device) >= self.drop_path_rate
        return branch * (kept.to(branch.dtype) / (1.0 - self.drop_path_rate))


class _StripeConvolution(nn.Module):
    """Depthwise convolution of (N, X, Y, Z, C) stripes, blind along axes on which a stripe is one token wide."""

    def __init__(self, channels: int, window: Window) -> None:
        super().__init__()
        x, y, z = (1 if side == 1 else 3 for side in window)
        # Stripes long in X only are turned: depthwise kernels on a CPU are an order slower along the first axis
        self.turned = window[0] == 0 and window[2] > 0
        kernel = (z, y, x) if self.turned else (x, y, z)
        self.convolution = nn.Conv3d(channels, channels, kernel, padding="same", groups=channels)

    def forward(self, values: Tensor) -> Tensor:
        return self._convolve(values.transpose(1, 3)).transpose(1, 3) if self.turned else self._convolve(values)

    def _convolve(self, values: Tensor) -> Tensor:
        # Contiguous with the channels last: the only layout in which depthwise kernels in 3D are fast on a CPU
        channels_first = values.contiguous().permute(0, 4, 1, 2, 3)
        return self.convolution(channels_first).permute(0, 2, 3, 4, 1)


def _attend(
    qkv: Tensor, window: Window, heads: int, lepe: nn.Module | None = None, *, mask_padding: bool = True
) -> Tensor:
    """Return (B, X, Y, Z, C) from one group's (B, X, Y, Z, 3C), attended stripe by stripe, with LePE if given."""
    batch, *extent, channels = qkv.shape
    sides = [_dealt(size, side) for size, side in zip(extent, window, strict=True)]
    missing = [-size % side for size, side in zip(extent, sides, strict=True)]
    before = [count // 2 for count in missing]
    mask: Tensor | None = None
    if any(missing):
        around = [0, 0]
        for axis in (2, 1, 0):
            around += [before[axis], missing[axis] - before[axis]]
        qkv = pad(qkv, around)
        if mask_padding:
            real = pad(qkv.new_ones(1, *extent, 1, dtype=torch.bool), around)
            mask = _partition(real, sides).flatten(1)[:, None, None].repeat(batch, 1, 1, 1)
    stripes = _partition(qkv, sides)
    width = channels // 3
    tokens = stripes.reshape(len(stripes), -1, 3, heads, width // heads)
    query, key, value = tokens.permute(2, 0, 3, 1, 4).unbind(0)
    seen = _sdpa(query, key, value, mask)
    seen = seen.transpose(1, 2).reshape(len(stripes), *sides, width)
    if lepe is not None:
        seen = seen + lepe(stripes[..., 2 * width :])
    padded = [size + count for size, count in zip(extent, missing, strict=True)]
    whole = _merge(seen, sides, [batch, *padded])
    if not any(missing):
        return whole
    for axis in range(3):
        whole = whole.narrow(axis + 1, before[axis], extent[axis])
    return whole


def _dealt(size: int, side: int) -> int:
    """Return how wide stripes are that share an axis evenly and are no wider than `side`; 0 is the whole axis.

    Padding would outweigh the image where a stripe is wider than the map, or the last one has little of it.
    """
    if side == 0 or side >= size:
        return size
    stripes = -(-size // side)
    return -(-size // stripes)


def _sdpa(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
    """Attend in (N, heads, T, d), in several calls where one would be too much for a kernel."""
    width = query.shape[-1]
    if query.device.type == "cpu" and width < _FAST_HEAD:
        query, key, value = (pad(each, [0, _FAST_HEAD - width]) for each in (query, key, value))
    rows = _LARGEST_BATCH // query.shape[1]
    parts = [
        scaled_dot_product_attention(
            query[start : start + rows],
            key[start : start + rows],
            value[start : start + rows],
            attn_mask=None if mask is None else mask[start : start + rows],
            scale=width**-0.5,
        )
        for start in range(0, len(query), rows)
    ]
    seen = torch.cat(parts) if len(parts) > 1 else parts[0]
    return seen[..., :width]


def _partition(volume: Tensor, sides: Sequence[int]) -> Tensor:
    """Cut (B, X, Y, Z, C) into stripes (B * count, x, y, z, C)."""
    (x, y, z), (batch, *extent, channels) = sides, volume.shape
    blocks = volume.reshape(batch, extent[0] // x, x, extent[1] // y, y, extent[2] // z, z, channels)
    return blocks.permute(0, 1, 3, 5, 2, 4, 6, 7).reshape(-1, x, y, z, channels)


def _merge(stripes: Tensor, sides: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Put stripes (B * count, x, y, z, C) together to (B, X, Y, Z, C)."""
    (x, y, z), (batch, *extent) = sides, shape
    blocks = stripes.reshape(batch, extent[0] // x, extent[1] // y, extent[2] // z, x, y, z, stripes.shape[-1])
    return blocks.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(batch, *extent, stripes.shape[-1])
