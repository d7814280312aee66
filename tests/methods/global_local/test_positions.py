"""Partitions: every slice belongs to one, sizes differ by one, cells are numbered both ways."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medssl.methods.global_local.positions import (
    cell_of,
    partition_of,
    partitions_of_cell,
    patch_starts,
    starts_of_partition,
)


@pytest.mark.parametrize("partitions", [2, 3, 4, 5, 6])
@pytest.mark.parametrize("extent", [6, 7, 10, 13])
def test_every_slice_belongs_to_one_partition_and_sizes_differ_by_one(extent: int, partitions: int) -> None:
    found = [
        starts_of_partition(extent, 1, partitions=partitions, partition=each).tolist() for each in range(partitions)
    ]
    assert sorted(itertools.chain(*found)) == list(range(extent))
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_the_partition_of_a_slice_is_that_of_its_centre() -> None:
    expected = [int(4 * (i + 0.5) / 10) for i in range(10)]
    assert partition_of(np.arange(10), extent=10, patch=1, partitions=4).tolist() == expected


@pytest.mark.parametrize("patch", [2, 5, 8])
def test_long_patches_reach_every_partition_with_their_centre_inside(patch: int) -> None:
    starts = patch_starts(9, patch)
    centres = starts + patch / 2
    assert centres.min() > 0
    assert centres.max() < 9
    assert set(partition_of(starts, extent=9, patch=patch, partitions=4)) == {0, 1, 2, 3}


def test_a_volume_shorter_than_the_partitions_has_none_of_some() -> None:
    sizes = [len(starts_of_partition(3, 1, partitions=4, partition=each)) for each in range(4)]
    assert sorted(sizes) == [0, 1, 1, 1]


def test_cells_are_numbered_both_ways() -> None:
    assert [cell_of(partitions_of_cell(cell, (2, 1, 3)), (2, 1, 3)) for cell in range(6)] == list(range(6))
