"""Partitions of a volume by normalised position, and where a patch may start to lie in one of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Cells = tuple[int, int, int]


def patch_starts(extent: int, patch: int) -> npt.NDArray[np.int64]:
    """Return the first voxels that a patch may have along an axis of several partitions.

    Its centre stays inside the volume; a patch at the border reaches out of it by less than its half, so that every
    partition is reached, also where a patch is long. A patch of one voxel (a slice) never reaches out.
    """
    return np.arange(-((patch - 1) // 2), extent - patch // 2)


def partition_of(starts: npt.NDArray[np.int64], *, extent: int, patch: int, partitions: int) -> npt.NDArray[np.int64]:
    """Return the partition of patches by the normalised position of their centre: floor(S * centre / extent).

    For slices (patch 1) this is floor(S * (i + 0.5) / N): every slice belongs to one, and sizes differ by one at most.

    Note:
        The published rule i // int(N / S) leaves out up to S - 1 slices and fails for N < S.
    """
    # centre = start + patch / 2, all times 2 to stay with whole numbers
    return np.minimum(partitions * (2 * starts + patch) // (2 * extent), partitions - 1)


def starts_of_partition(extent: int, patch: int, *, partitions: int, partition: int) -> npt.NDArray[np.int64]:
    """Return the first voxels of the patches of one partition; empty where a volume is too short for it."""
    starts = patch_starts(extent, patch)
    return starts[partition_of(starts, extent=extent, patch=patch, partitions=partitions) == partition]


def cell_of(partitions: Sequence[int], cells: Sequence[int]) -> int:
    """Return the number of a cell from its partition along each axis."""
    return int(np.ravel_multi_index(tuple(partitions), tuple(cells)))


def partitions_of_cell(cell: int, cells: Sequence[int]) -> tuple[int, ...]:
    """Return the partition along each axis of a cell."""
    return tuple(int(each) for each in np.unravel_index(cell, tuple(cells)))
