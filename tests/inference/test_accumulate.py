"""Blending tiles: what all tiles agree on comes out unchanged, and the whole is MONAI's sliding window."""

import pytest
import torch
from monai.inferers import sliding_window_inference

from medssl.inference.accumulate import Accumulator
from medssl.inference.tiles import TileSettings, importance, tile_grid

CPU = torch.device("cpu")
SETTINGS = TileSettings(roi_size=(8, 6, 8), overlap=(0.5, 0.25, 0.5))


def _blend(image, predictor, settings=SETTINGS):
    grid = tile_grid(image.shape[1:], settings)
    blended = Accumulator(grid, importance(grid.tile, settings), device=CPU)
    for start in grid.starts:
        window = tuple(slice(first, first + side) for first, side in zip(start, grid.tile, strict=True))
        blended.add([start], predictor(image[(slice(None), *window)][None]))
    return blended.scores(normalised=True)


def test_tiles_that_agree_come_out_unchanged():
    image = torch.rand(2, 13, 11, 17)
    assert torch.allclose(_blend(image, lambda tile: tile), image, atol=1e-6)


def test_tiles_that_disagree_are_blended_as_monai_does():
    def predictor(tile):
        return tile - tile.mean()

    image = torch.rand(1, 13, 11, 17)
    expected = sliding_window_inference(
        image[None], SETTINGS.roi_size, 1, predictor, overlap=SETTINGS.overlap, mode="gaussian"
    )
    assert torch.allclose(_blend(image, predictor), expected[0], atol=1e-6)


def test_the_largest_class_needs_no_division():
    grid = tile_grid((13, 6, 8), SETTINGS)
    both = [Accumulator(grid, importance(grid.tile, SETTINGS), device=CPU) for _ in range(2)]
    for start in grid.starts:
        tile = torch.rand(1, 3, *grid.tile)
        for blended in both:
            blended.add([start], tile)
    assert torch.equal(both[0].scores(normalised=True).argmax(0), both[1].scores(normalised=False).argmax(0))


def test_a_volume_of_one_tile_is_that_tile():
    image = torch.rand(1, 8, 6, 8)
    assert torch.equal(_blend(image, lambda tile: tile * 2), image * 2)


def test_no_tile_is_an_error_of_the_program():
    grid = tile_grid((8, 6, 8), SETTINGS)
    with pytest.raises(ValueError, match="no tile was added"):
        Accumulator(grid, importance(grid.tile, SETTINGS), device=CPU).scores(normalised=False)
