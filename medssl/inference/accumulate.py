"""Blend overlapping tiles into one volume in float32, in the arithmetic order of MONAI's sliding window."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medssl.inference.tiles import Shape, TileGrid


class Accumulator:
    """Weighted sum of tiles on the padded volume.

    A volume of one tile needs neither weights nor buffers: its tile is the result.

    Args:
        grid: Tiles of the volume.
        weight: Importance of each voxel of a tile.
        device: Where the sums live; "cpu" spares GPU memory for large volumes.
    """

    def __init__(self, grid: TileGrid, weight: Tensor, *, device: torch.device) -> None:
        self._grid = grid
        self._weight = weight.to(device)
        self._device = device
        self._sum: Tensor | None = None

    def add(self, starts: Sequence[Shape], outputs: Tensor) -> None:
        """Add tiles (B, K, *tile) that begin at `starts`."""
        outputs = outputs.to(device=self._device, dtype=torch.float32)
        if len(self._grid.starts) == 1:
            self._sum = outputs[0]
            return
        if self._sum is None:
            self._sum = torch.zeros((outputs.shape[1], *self._grid.padded), device=self._device)
        for start, output in zip(starts, outputs, strict=True):
            self._sum[(slice(None), *_window(start, self._grid.tile))] += output * self._weight

    def scores(self, *, normalised: bool) -> Tensor:
        """Return the blended scores (K, *padded).

        Args:
            normalised: Divide by the sum of weights. Not needed when only the largest class counts, because the
                divisor is the same for all classes of a voxel.
        """
        if self._sum is None:
            message = "no tile was added: a volume has at least one tile"
            raise ValueError(message)
        if normalised and len(self._grid.starts) > 1:
            self._sum /= self._total_weight()
        return self._sum

    def _total_weight(self) -> Tensor:
        total = torch.zeros(self._grid.padded, device=self._device)
        for start in self._grid.starts:
            total[_window(start, self._grid.tile)] += self._weight
        return total


def _window(start: Shape, tile: Shape) -> tuple[slice, ...]:
    return tuple(slice(first, first + side) for first, side in zip(start, tile, strict=True))
