"""Crops by position: in their cell, their views in place, keyed by the position in the stream alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from methods.global_local.small_pretraining import make_dataset, make_volumes
from monai.transforms import (
    Compose,
    EnsureTyped,
    OneOf,
    RandCoarseShuffled,
    RandFlipd,
    RandGaussianNoised,
    RandSimulateLowResolutiond,
    RandSpatialCropd,
)

from medssl.core.errors import ConfigError, GeometryError
from medssl.data.datasets import SampleKey
from medssl.methods.global_local.crops import CropKey, cell_of_start, cut, draw_shifts, draw_start


def test_slices_lie_in_the_cell_that_was_asked_for() -> None:
    dataset = make_dataset(cells=(1, 1, 3))
    for position in range(20):
        crop = dataset[CropKey(position % 3, position, position % 3)]
        start = crop["start"][0].tolist()
        assert cell_of_start(start, (48, 48, 6), (48, 48, 1), (1, 1, 3)) == position % 3
        assert crop["partition"].tolist() == [position % 3] * 2


def test_a_crop_depends_on_its_position_alone() -> None:
    first, again = make_dataset(), make_dataset()
    again[CropKey(1, 4, 0)]
    assert torch.equal(first[CropKey(0, 7, 1)]["image"], again[CropKey(0, 7, 1)]["image"])
    assert not torch.equal(first[CropKey(0, 7, 1)]["image"], first[CropKey(0, 8, 1)]["image"])


def test_without_a_cell_one_is_drawn() -> None:
    dataset = make_dataset()
    found = {int(dataset[SampleKey(0, position)]["partition"][0]) for position in range(20)}
    assert found == {0, 1}


def test_the_first_view_can_stay_as_it_is() -> None:
    crop = make_dataset(view_count=3, keep_original=True)[CropKey(0, 3, 0)]
    index = int(crop["start"][0, 2])
    assert torch.equal(crop["image"][0, ..., 0], make_volumes()[0]["image"][..., index])
    assert not torch.equal(crop["image"][1], crop["image"][0])
    assert not torch.equal(crop["image"][1], crop["image"][2])


def test_intensity_views_keep_every_voxel_in_its_place() -> None:
    first, second = make_dataset()[CropKey(0, 3, 0)]["image"].flatten(1)
    assert torch.corrcoef(torch.stack([first, second]))[0, 1] > 0.9999


def test_each_view_draws_its_own_brightness_over_a_thousand_views() -> None:
    dataset = make_dataset(view_count=4, patch_size=(4, 4, 1))
    means = torch.cat([dataset[SampleKey(0, position)]["image"].mean((1, 2, 3, 4)) for position in range(250)])
    assert len(set(means.tolist())) > 990
    assert means.std() > 0.1


@pytest.mark.parametrize("patch", [(4, 4, 4), (6, 6, 3)])
def test_crops_over_the_border_are_surrounded_by_the_darkest_value(patch: tuple) -> None:
    image = torch.rand(2, 5, 5, 5) + 1.0
    crop = cut(image, np.array([-2, 3, 1]), patch)
    assert crop.shape == (2, *patch)
    assert torch.equal(crop[:, 0, 0, 0], image.amin((1, 2, 3)))
    assert torch.equal(crop[:, 2, 0, 0], image[:, 0, 3, 1])


def test_views_share_at_least_half_of_a_crop() -> None:
    generator = np.random.default_rng(0)
    for _ in range(200):
        apart = np.abs(np.diff(draw_shifts((40, 40, 40), (16, 16, 16), 2, 0.5, generator), axis=0))[0]
        assert np.prod((16 - apart) / 16) >= 0.5
    assert not draw_shifts((40, 16, 40), (16, 16, 1), 9, 0.5, generator)[:, 1:].any()


def test_patches_of_a_cell_have_their_centre_in_it() -> None:
    generator = np.random.default_rng(0)
    for cell in range(4):
        starts = [draw_start((20, 20, 9), (8, 8, 6), (2, 1, 2), cell, generator) for _ in range(30)]
        assert {cell_of_start(start, (20, 20, 9), (8, 8, 6), (2, 1, 2)) for start in starts} == {cell}
        assert {bool(0 <= start[1] <= 12) for start in starts} == {True}


def test_a_volume_too_short_for_a_cell_is_named() -> None:
    with pytest.raises(GeometryError, match=r"case short: .*partition"):
        for cell in range(4):
            draw_start((8, 8, 3), (8, 8, 1), (1, 1, 4), cell, np.random.default_rng(0), case="short")


def test_random_preprocessing_and_flips_across_cells_are_refused() -> None:
    from medssl.methods.global_local import CropDataset

    flip = Compose([RandFlipd("image", spatial_axis=2)])
    with pytest.raises(ConfigError, match="no flip along an axis with several cells"):
        make_dataset(views=flip)
    with pytest.raises(ConfigError, match="nothing random"):
        CropDataset(make_volumes(), Compose([RandGaussianNoised("image")]), views=flip, patch_size=(8, 8, 1))


def test_views_of_another_size_are_refused() -> None:
    smaller = Compose([EnsureTyped("image"), RandSpatialCropd("image", (20, 20, 1), random_size=False)])
    with pytest.raises(ConfigError, match="Resize crops"):
        make_dataset(views=smaller, aligned=False)[CropKey(0, 0, 0)]


def test_windows_larger_than_a_crop_are_refused() -> None:
    larger = Compose([RandSpatialCropd("image", (64, 64, 1), random_size=False)])
    with pytest.raises(ConfigError, match="RandSpatialCropd to cut out of crops"):
        make_dataset(views=larger, aligned=False)


_FLIP = RandFlipd("image", spatial_axis=0)


@pytest.mark.parametrize("view", [_FLIP, OneOf([_FLIP]), RandCoarseShuffled("image", holes=2, spatial_size=4)])
def test_views_that_move_voxels_are_not_aligned(view) -> None:
    with pytest.raises(ConfigError, match="lie on each other voxel by voxel"):
        make_dataset(views=Compose([view]))


def test_aligned_views_are_not_shifted_and_come_with_their_crop() -> None:
    with pytest.raises(ConfigError, match=r"found min_overlap 0\.5"):
        make_dataset(min_overlap=0.5)
    make_dataset(views=Compose([RandSimulateLowResolutiond("image")]))
    crop = make_dataset()[CropKey(0, 3, 1)]
    assert torch.equal(crop["crop"], make_volumes()[0]["image"][..., int(crop["start"][0, 2]), None])
