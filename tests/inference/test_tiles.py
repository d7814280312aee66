"""Tile grids: full cover, nothing outside, and the same tiles and weights as MONAI."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.inference.tiles import TileSettings, importance, pad_volume, tile_grid, unpad

SIDES = st.tuples(*[st.integers(1, 23)] * 3)
ROIS = st.tuples(*[st.integers(-1, 12)] * 3)
OVERLAPS = st.tuples(*[st.floats(0, 0.95)] * 3)


@given(shape=SIDES, roi=ROIS, overlap=OVERLAPS)
@settings(max_examples=150, deadline=None)
def test_tiles_cover_every_voxel_and_stay_inside(shape, roi, overlap):
    grid = tile_grid(shape, TileSettings(roi_size=roi, overlap=overlap))
    for axis, (size, side) in enumerate(zip(grid.padded, grid.tile, strict=True)):
        starts = {start[axis] for start in grid.starts}
        covered = {voxel for start in starts for voxel in range(start, start + side)}
        assert covered == set(range(size))


@given(shape=SIDES, roi=ROIS, overlap=OVERLAPS)
@settings(max_examples=150, deadline=None)
def test_tiles_are_those_of_monai(shape, roi, overlap):
    from monai.data.utils import dense_patch_slices
    from monai.inferers.utils import _get_scan_interval

    grid = tile_grid(shape, TileSettings(roi_size=roi, overlap=overlap))
    interval = _get_scan_interval(grid.padded, grid.tile, 3, overlap)
    expected = [tuple(axis.start for axis in window) for window in dense_patch_slices(grid.padded, grid.tile, interval)]
    assert sorted(grid.starts) == sorted(set(expected))


@pytest.mark.parametrize("size", [7, 8, 9])
def test_image_smaller_than_equal_to_and_one_larger_than_the_tile(size):
    grid = tile_grid((size, 8, 8), TileSettings(roi_size=(8, 8, 8), overlap=(0.5, 0.5, 0.5)))
    assert (grid.padded[0], len(grid.starts)) == {7: (8, 1), 8: (8, 1), 9: (9, 2)}[size]


@pytest.mark.parametrize("mode", ["constant", "gaussian"])
def test_weights_are_those_of_monai(mode):
    from monai.data.utils import compute_importance_map

    ours = importance((9, 12, 5), TileSettings(roi_size=(9, 12, 5), overlap=(0, 0, 0), mode=mode))
    assert torch.equal(ours, compute_importance_map((9, 12, 5), mode=mode))


def test_padding_is_taken_off_again():
    tiles = TileSettings(roi_size=(8, 9, 3), overlap=(0.5, 0.5, 0.5), padding_value=7.0)
    volume = torch.rand(2, 5, 4, 6)
    grid = tile_grid((5, 4, 6), tiles)
    padded = pad_volume(volume, grid, tiles)
    assert padded.shape == (2, 8, 9, 6)
    assert float(padded[0, 0, 0, 0]) == 7.0
    assert torch.equal(unpad(padded, grid, (5, 4, 6)), volume)


def test_whole_axis_is_one_tile_when_the_roi_says_so():
    grid = tile_grid((5, 6, 7), TileSettings(roi_size=(0, -1, 7), overlap=(0.0, 0.0, 0.0)))
    assert grid.starts == ((0, 0, 0),)
    assert np.array_equal(grid.tile, (5, 6, 7))
