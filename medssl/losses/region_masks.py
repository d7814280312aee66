"""Regions of a feature map: where they lie, which are neighbours, and who is compared in the local loss."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from medssl.core.errors import ConfigError
from medssl.losses.contrastive import PairMasks
from medssl.losses.view_masks import ViewIds

LocalStrategy = Literal["LR", "LD"]
LocalNegatives = Literal["both", "other"]


class Regions(NamedTuple):
    """Windows of a map (X, Y, Z).

    Attributes:
        offsets: (A, 3) first voxel of each window.
        size: Voxels of a window along each axis.
        map_size: Voxels of the map along each axis.
    """

    offsets: Tensor
    size: tuple[int, int, int]
    map_size: tuple[int, int, int]


def quincunx_regions(map_size: Sequence[int], *, size: Sequence[int] = (3, 3, 1), count: int = 13) -> Regions:
    """Place 9 windows of a map's plane on a 3 x 3 grid, or 13 with four more between them, as published.

    Args:
        map_size: Voxels of the map along X, Y, Z; Z as long as the window.
        size: Voxels of a window.
        count: 9 or 13.

    Raises:
        ConfigError: If the count is another one, or windows would overlap.

    Note:
        Source: Chaitanya et al., NeurIPS 2020, code: offsets {0, m/2, m} and {m/4, 3m/4} with m = side - 4 for 3 x 3.
    """
    if count not in {9, 13}:
        message = f"regions: expected 9 or 13 in the plane, got {count}."
        raise ConfigError(message)
    last = [side - extent - 1 for side, extent in zip(map_size[:2], size[:2], strict=True)]
    outer = itertools.product(*((0, end // 2, end) for end in last))
    inner = itertools.product(*((end // 4, 3 * end // 4) for end in last))
    places = [*outer, *(inner if count == 13 else ())]
    return _checked(map_size, size, [(x, y, 0) for x, y in places])


def grid_regions(
    map_size: Sequence[int], *, size: Sequence[int] = (3, 3, 3), grid: Sequence[int] = (3, 3, 3)
) -> Regions:
    """Place windows on a regular grid that reaches all borders of a map.

    Args:
        map_size: Voxels of the map along X, Y, Z.
        size: Voxels of a window.
        grid: Windows along each axis.

    Raises:
        ConfigError: If windows would overlap.
    """
    steps = [
        torch.linspace(0, side - extent, count).round().long().tolist() if count > 1 else [(side - extent) // 2]
        for side, extent, count in zip(map_size, size, grid, strict=True)
    ]
    return _checked(map_size, size, list(itertools.product(*steps)))


def _checked(map_size: Sequence[int], size: Sequence[int], places: list[tuple[int, int, int]]) -> Regions:
    """Refuse windows that leave the map or share voxels: each would be its own negative in part."""
    offsets = torch.tensor(places)
    apart = (offsets[:, None] - offsets[None]).abs()
    overlap = (apart < torch.tensor(size)).all(-1) & ~torch.eye(len(places), dtype=torch.bool)
    outside = (offsets < 0).any() or (offsets + torch.tensor(size) > torch.tensor(map_size)).any()
    if overlap.any() or outside:
        message = (
            f"regions: expected {len(places)} windows of {tuple(size)} to lie apart in the map {tuple(map_size)}, but "
            f"they {'leave it' if outside else 'overlap'}. Take larger images, more "
            "decoder_blocks, or fewer or smaller regions."
        )
        raise ConfigError(message)
    return Regions(offsets, _triple(size), _triple(map_size))


def _triple(sizes: Sequence[int]) -> tuple[int, int, int]:
    return int(sizes[0]), int(sizes[1]), int(sizes[2])


def nearest_regions(regions: Regions, count: int, *, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)) -> Tensor:
    """Return the `count` nearest other windows of each window, (A, A), without the diagonal.

    Args:
        regions: The windows.
        count: Neighbours of each; of windows equally far the first ones.
        spacing_mm: Size of a voxel of the map.

    Raises:
        ConfigError: If there are not so many other windows.

    Note:
        The published code has a table written by hand, which this replaces: 1 of 9 and 9 of 13 windows have ties.
    """
    number = len(regions.offsets)
    if not 0 < count < number:
        message = f"neighbours: expected 1 to {number - 1} of {number} regions, got {count}. Change the number."
        raise ConfigError(message)
    places = regions.offsets.double() * torch.tensor(spacing_mm, dtype=torch.float64)
    distances = (places[:, None] - places[None]).square().sum(-1).fill_diagonal_(torch.inf)
    nearest = distances.argsort(dim=1, stable=True)[:, :count]
    return torch.zeros(number, number, dtype=torch.bool).scatter_(1, nearest, value=True)


def region_masks(neighbours: Tensor, *, negatives: LocalNegatives = "both") -> PairMasks:
    """Return who is compared among the regions of two maps, the A of the first and then the A of the second.

    The positive of a region is the same one of the other map, in both directions.

    Args:
        neighbours: (A, A), which regions are near.
        negatives: Neighbours in "both" maps, or in the "other" one only.

    Returns:
        Masks of (2A, 2A).

    Note:
        Source: Chaitanya et al., NeurIPS 2020, equation 3, with the negatives of both maps as in the released code.
    """
    count = len(neighbours)
    empty = torch.zeros_like(neighbours)
    same = torch.eye(count, dtype=torch.bool, device=neighbours.device)
    own = neighbours if negatives == "both" else empty
    pushed = torch.cat([torch.cat([own, neighbours], 1), torch.cat([neighbours, own], 1)])
    return PairMasks(torch.cat([torch.cat([empty, same], 1), torch.cat([same, empty], 1)]), pushed)


def map_pairs(ids: ViewIds, *, strategy: LocalStrategy) -> Tensor:
    """Return which maps are compared, (P, 2) numbers of views, the first below the second.

    | strategy | pairs |
    |---|---|
    | LR | two views of one source |
    | LD | also the same view of the same partition in two volumes |

    Args:
        ids: What the views are of.
        strategy: See above.

    Raises:
        ConfigError: If the strategy is unknown.
    """
    check_local_strategy(strategy)
    source, volume, partition, view = (each[:, None] == each[None] for each in ids)
    wanted = source if strategy == "LR" else source | (partition & view & ~volume)
    return wanted.triu(1).nonzero()


def check_local_strategy(strategy: str) -> None:
    """Refuse a strategy that is unknown.

    Raises:
        ConfigError: If it is.
    """
    if strategy not in {"LR", "LD"}:
        message = f'strategy: expected "LR" or "LD", got {strategy!r}.'
        raise ConfigError(message)


def region_windows(features: Tensor, regions: Regions) -> Tensor:
    """Cut the windows out of maps (N, C, X, Y, Z); return (N, A, C * voxels of a window)."""
    inside = torch.tensor(list(itertools.product(*(range(extent) for extent in regions.size))))
    places = regions.offsets[:, None] + inside[None]  # (A, K, 3)
    _, y, z = features.shape[2:]
    linear = (places[..., 0] * y + places[..., 1]) * z + places[..., 2]
    windows = features.flatten(2)[:, :, linear.to(features.device)]  # (N, C, A, K)
    return windows.movedim(2, 1).flatten(2)
