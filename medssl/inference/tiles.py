"""Tile grids: where tiles lie, how an image smaller than a tile is padded, and how tiles are weighted.

Positions, padding and weights are those of MONAI's `SlidingWindowInferer`, so that a bundle gives the same result here.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Shape = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class TileSettings:
    """How a volume is cut into tiles, in the terms of MONAI's `SlidingWindowInferer`.

    Attributes:
        roi_size: Tile size in voxels, one entry per axis; 0 or less means the whole axis.
        overlap: Share of the tile that neighbours share, 0 to below 1, one entry per axis.
        batch_size: Tiles that the network sees at once.
        mode: Weighting of overlapping tiles.
        sigma_scale: Gaussian sigma as a share of the tile size, one entry per axis.
        padding_mode: How an axis shorter than the tile is padded, in the terms of torch's `pad`.
        padding_value: Fill for `padding_mode` "constant".
    """

    roi_size: Shape
    overlap: tuple[float, ...]
    batch_size: int = 1
    mode: Literal["constant", "gaussian"] = "gaussian"
    sigma_scale: tuple[float, ...] = (0.125, 0.125, 0.125)
    padding_mode: str = "constant"
    padding_value: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TileGrid:
    """Tiles of one volume.

    Attributes:
        tile: Tile size in voxels.
        padding: Voxels added before and after each axis.
        padded: Size of the padded volume, at least the tile size.
        starts: First voxel of every tile in the padded volume.
    """

    tile: Shape
    padding: tuple[tuple[int, int], ...]
    padded: Shape
    starts: tuple[Shape, ...]


def tile_grid(shape: Sequence[int], settings: TileSettings) -> TileGrid:
    """Lay tiles over a volume so that every voxel is covered and no tile reaches outside.

    Args:
        shape: Spatial size of the volume in voxels.
        settings: Tile size and overlap.
    """
    tile = tuple(roi if roi > 0 else size for roi, size in zip(settings.roi_size, shape, strict=True))
    padded = padded_shape(shape, settings)
    missing = [size - before for size, before in zip(padded, shape, strict=True)]
    padding = tuple((gap // 2, gap - gap // 2) for gap in missing)
    axes = [_starts(size, side, share) for size, side, share in zip(padded, tile, settings.overlap, strict=True)]
    return TileGrid(tile=tile, padding=padding, padded=padded, starts=tuple(itertools.product(*axes)))


def padded_shape(shape: Sequence[int], settings: TileSettings) -> Shape:
    """Return the size of a volume padded to at least one tile per axis; no tile is laid, so any size costs nothing."""
    return tuple(max(size, roi) for size, roi in zip(shape, settings.roi_size, strict=True))


def _starts(size: int, side: int, overlap: float) -> list[int]:
    step = max(int(side * (1 - overlap)), 1)
    count = math.ceil((size - side) / step) + 1
    return [min(index * step, size - side) for index in range(count)]


def importance(tile: Sequence[int], settings: TileSettings) -> Tensor:
    """Return the weight of each voxel of a tile, float32; one everywhere, or a Gaussian that never reaches zero."""
    if settings.mode == "constant":
        return torch.ones(tuple(tile))
    weight = torch.ones(())
    for side, scale in zip(tile, settings.sigma_scale, strict=True):
        x = torch.arange(start=-(side - 1) / 2.0, end=(side - 1) / 2.0 + 1, dtype=torch.float32)
        weight = weight.unsqueeze(-1) * torch.exp(x**2 / (-2 * (side * scale) ** 2))
    return weight.clamp_(min=max(float(weight.min()), 1e-3))


def pad_volume(volume: Tensor, grid: TileGrid, settings: TileSettings) -> Tensor:
    """Pad a volume (C, X, Y, Z) to at least one tile per axis; return it unchanged if it is large enough."""
    if not any(before or after for before, after in grid.padding):
        return volume
    widths = [width for pair in reversed(grid.padding) for width in pair]
    value = settings.padding_value if settings.padding_mode == "constant" else None
    padded = torch.nn.functional.pad(volume[None], widths, mode=settings.padding_mode, value=value)
    return padded[0]


def unpad(volume: Tensor, grid: TileGrid, shape: Sequence[int]) -> Tensor:
    """Return the view of a padded volume (C, X, Y, Z) that lies over the original voxels."""
    window = tuple(slice(before, before + size) for (before, _), size in zip(grid.padding, shape, strict=True))
    return volume[(slice(None), *window)]
