"""A plan follows the data: labels, geometry, channels and normalisation."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import write_phantoms

from medssl.bundle.dataset_plan import Needs, Wishes, fit_patch, joined_needs, make_plan
from medssl.data.fingerprint import fingerprint
from medssl.data.manifest import load_manifest


@given(st.tuples(*[st.integers(1, 600)] * 3), st.integers(8**3 * 8, 10**6))
def test_patches_are_multiples_of_the_stride_and_within_their_budget(shape: tuple[int, ...], voxels: int) -> None:
    patch = fit_patch(shape, strides=(8, 8, 8), voxels=voxels)
    assert all(extent % 8 == 0 and extent >= 16 for extent in patch)
    assert math.prod(patch) <= voxels or patch == (16, 16, 16) or max(patch) == 16
    assert all(extent <= max(16, 8 * math.ceil(own / 8)) for extent, own in zip(patch, shape, strict=True))


def test_a_small_organ_gets_a_patch_that_covers_it() -> None:
    assert fit_patch((35, 50, 36), strides=(8, 8, 8), voxels=100_000) == (40, 56, 40)


def test_thick_slices_get_as_many_as_the_network_needs_and_no_more() -> None:
    assert fit_patch((90, 90, 18), strides=(32, 32, 4), voxels=65536) == (64, 64, 16)
    assert fit_patch((190, 150, 1), strides=(32, 32, 1), voxels=65536) == (192, 160, 1)


def test_a_network_of_slices_sees_one_at_a_time_and_keeps_their_distance(tmp_path: Path) -> None:
    manifest = load_manifest(write_phantoms(tmp_path))
    found, _ = fingerprint(manifest, tmp_path, workers=0)
    plan = make_plan(manifest, found, Wishes(), Needs(strides=(8, 8, 1), slices=True))
    assert (plan.spacing_mm, plan.patch_size) == ((1.0, 1.0, -1.0), (24, 32, 1))
    sliced = Needs(strides=(8, 8, 1), slices=True, spacing_mm=(2.0, 2.0, 2.0))
    assert make_plan(manifest, found, Wishes(), sliced).spacing_mm == (2.0, 2.0, -1.0)
    pretrained = make_plan(manifest, found, Wishes(), Needs(strides=(8, 8, 8), spacing_mm=(2.0, 2.0, 2.0)))
    assert (pretrained.spacing_mm, pretrained.patch_size) == ((2.0, 2.0, 2.0), (16, 16, 16))


def test_a_plan_takes_labels_geometry_and_channels_from_the_data(tmp_path: Path) -> None:
    path = write_phantoms(tmp_path, values=(3, 7), channels=2)
    manifest = load_manifest(path)
    found, _ = fingerprint(manifest, tmp_path, workers=0)
    plan = make_plan(manifest, found, Wishes())
    assert plan.class_names == ("background", "ball", "box")
    assert (plan.label_values, plan.channels) == ((0, 3, 7), 2)
    assert (plan.spacing_mm, plan.patch_size) == ((1.0, 1.0, 1.0), (24, 32, 24))


def test_ct_is_clipped_and_scaled_by_the_labelled_voxels(tmp_path: Path) -> None:
    manifest = load_manifest(write_phantoms(tmp_path)).model_copy(update={"modality": "CT"})
    found, _ = fingerprint(manifest, tmp_path, workers=0)
    scaling = make_plan(manifest, found, Wishes()).intensity
    assert scaling["_target_"] == "ScaleIntensityRanged"
    assert 60 < scaling["a_min"] < 110 < 190 < scaling["a_max"] < 240
    slope = (scaling["b_max"] - scaling["b_min"]) / (scaling["a_max"] - scaling["a_min"])
    assert slope == pytest.approx(1 / found.foreground[0].standard_deviation)


def test_absolute_intensities_share_one_scaling(tmp_path: Path) -> None:
    manifest = load_manifest(write_phantoms(tmp_path))
    found, _ = fingerprint(manifest, tmp_path, workers=0)
    plan = make_plan(manifest, found, Wishes(absolute_intensities=True))
    assert plan.intensity["_target_"] == "ScaleIntensityRanged"
    assert make_plan(manifest, found, Wishes()).intensity["_target_"] == "NormalizeIntensityd"


def test_networks_that_are_compared_share_strides_and_cubes() -> None:
    views, plain = Needs(strides=(12, 12, 12), cubes=True), Needs(strides=(8, 8, 2))
    shared = Needs(strides=(24, 24, 12), cubes=True)
    assert joined_needs(plain, [views, plain]) == joined_needs(views, [views, plain]) == shared


def test_a_network_of_slices_neither_gives_nor_takes_a_grid() -> None:
    slices, plain = Needs(strides=(16, 16, 1), slices=True), Needs(strides=(8, 8, 8))
    assert joined_needs(slices, [plain, Needs(cubes=True)]) == slices
    assert joined_needs(plain, [slices]) == plain


def test_network_that_needs_cubes_gets_voxels_of_the_median_volume(tmp_path: Path) -> None:
    manifest = load_manifest(write_phantoms(tmp_path))
    found, _ = fingerprint(manifest, tmp_path, workers=0)
    flat = replace(found, spacing_mm=replace(found.spacing_mm, median=(0.5, 0.5, 4.0)))
    assert make_plan(manifest, flat, Wishes(), Needs(cubes=True)).spacing_mm == (1.0, 1.0, 1.0)
