"""Surface distances against DeepMind's surface-distance, MONAI, phantoms with known distances, and as properties."""

from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from monai.metrics import compute_hausdorff_distance, compute_surface_dice
from scipy import ndimage

from medssl.metrics.surface import hausdorff95, surface_dice, surfel_areas

np.Inf = np.inf  # surface-distance 0.1 was written for NumPy 1
surface_distance = pytest.importorskip("surface_distance.metrics")

ANISOTROPIC = (0.7, 1.3, 4.0)
blobs = arrays(bool, (7, 6, 5), elements=st.booleans()).filter(lambda mask: mask.any())


def cube(start, size=8, shape=(24, 22, 20)):
    mask = np.zeros(shape, bool)
    mask[tuple(slice(first, first + size) for first in start)] = True
    return mask


@pytest.fixture(scope="module")
def grey_matter():
    """Two thresholds of the grey-matter map that nilearn ships: a folded, thin, realistic surface."""
    folder = Path(find_spec("nilearn").submodule_search_locations[0]) / "datasets" / "data"
    path = folder / "mni_icbm152_gm_tal_nlin_sym_09a_converted.nii.gz"
    values = np.asarray(nib.load(path).dataobj)[60:110, 60:110, 40:80]
    half = values.max() / 2
    return values > half, ndimage.gaussian_filter(values.astype(float), 1.0) > 0.9 * half


def deepmind(reference, prediction, spacing):
    return surface_distance.compute_surface_distances(reference, prediction, spacing)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), ANISOTROPIC, (4.0, 0.7, 1.3)])
@pytest.mark.parametrize("tolerance", [0.5, 1.0, 2.0])
def test_surface_dice_equals_deepmind_on_real_anatomy(grey_matter, spacing, tolerance):
    expected = surface_distance.compute_surface_dice_at_tolerance(deepmind(*grey_matter, spacing), tolerance)
    found = surface_dice(*grey_matter, spacing_mm=spacing, tolerance_mm=tolerance)
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), ANISOTROPIC])
def test_hd95_is_within_a_voxel_diagonal_of_deepmind_on_real_anatomy(grey_matter, spacing):
    expected = surface_distance.compute_robust_hausdorff(deepmind(*grey_matter, spacing), 95)
    found = hausdorff95(*grey_matter, spacing_mm=spacing)
    assert abs(found - expected) <= np.linalg.norm(spacing)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), ANISOTROPIC])
def test_both_equal_monai_on_real_anatomy(grey_matter, spacing):
    reference, prediction = (torch.from_numpy(mask)[None, None] for mask in grey_matter)
    options = {"spacing": spacing, "include_background": True}
    hausdorff = compute_hausdorff_distance(prediction, reference, percentile=95, **options).item()
    agreement = compute_surface_dice(prediction, reference, [1.0], use_subvoxels=True, **options).item()
    assert hausdorff95(*grey_matter, spacing_mm=spacing) == pytest.approx(hausdorff, abs=1e-4)
    assert surface_dice(*grey_matter, spacing_mm=spacing, tolerance_mm=1.0) == pytest.approx(agreement, abs=1e-5)


@settings(max_examples=40, deadline=None)
@given(a=blobs, b=blobs)
def test_surface_dice_equals_deepmind_on_random_masks(a, b):
    expected = surface_distance.compute_surface_dice_at_tolerance(deepmind(a, b, ANISOTROPIC), 1.0)
    assert surface_dice(a, b, spacing_mm=ANISOTROPIC, tolerance_mm=1.0) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("axis", "expected"), [(0, 2.1), (1, 3.9), (2, 12.0)])
def test_hd95_of_a_shifted_cube_is_the_shift_in_mm(axis, expected):
    start = [6, 6, 6]
    start[axis] += 3
    assert hausdorff95(cube((6, 6, 6)), cube(start), spacing_mm=ANISOTROPIC) == pytest.approx(expected)


def test_surface_one_voxel_away_is_within_a_tolerance_of_one_voxel():
    float32_spacing = (float(np.float32(0.7)), 1.0, 1.0)
    a, b = cube((6, 6, 6)), cube((7, 6, 6))
    assert surface_dice(a, b, spacing_mm=float32_spacing, tolerance_mm=0.7) == 1.0
    assert surface_dice(a, b, spacing_mm=float32_spacing, tolerance_mm=0.69) < 1.0


def test_a_structure_at_the_edge_of_the_image_is_closed_there():
    mask, inner = np.ones((4, 4, 4), bool), np.zeros((6, 6, 6), bool)
    inner[1:5, 1:5, 1:5] = True
    moved = np.zeros_like(inner)
    moved[1:5, 1:5, 1:4] = True
    assert hausdorff95(mask, moved[1:5, 1:5, 1:5], spacing_mm=ANISOTROPIC) == hausdorff95(
        inner, moved, spacing_mm=ANISOTROPIC
    )


@settings(max_examples=30, deadline=None)
@given(a=blobs)
def test_equal_masks_agree_perfectly(a):
    assert surface_dice(a, a, spacing_mm=ANISOTROPIC, tolerance_mm=0.0) == 1.0
    assert hausdorff95(a, a, spacing_mm=ANISOTROPIC) == 0.0


@settings(max_examples=30, deadline=None)
@given(a=blobs, b=blobs, axis=st.integers(0, 2))
def test_hd95_is_symmetric_and_does_not_change_when_both_are_flipped(a, b, axis):
    found = hausdorff95(a, b, spacing_mm=ANISOTROPIC)
    assert found == hausdorff95(b, a, spacing_mm=ANISOTROPIC)
    flipped = hausdorff95(np.flip(a, axis), np.flip(b, axis), spacing_mm=ANISOTROPIC)
    assert flipped == pytest.approx(found)


@settings(max_examples=30, deadline=None)
@given(a=blobs, b=blobs, axis=st.integers(0, 2))
def test_surface_dice_does_not_change_when_both_are_flipped(a, b, axis):
    options = {"spacing_mm": (1.0, 1.0, 1.0), "tolerance_mm": 1.0}
    flipped = surface_dice(np.flip(a, axis), np.flip(b, axis), **options)
    # the marching-cubes table resolves ambiguous corners by a rule that mirrors do not share
    assert flipped == pytest.approx(surface_dice(a, b, **options), abs=0.05)


def test_an_empty_mask_has_no_surface_distance():
    empty = np.zeros((24, 22, 20), bool)
    with pytest.raises(ValueError, match="undefined"):
        hausdorff95(cube((6, 6, 6)), empty, spacing_mm=(1.0, 1.0, 1.0))


def test_table_at_hand_gives_the_same_surface_dice():
    a, b = cube((6, 6, 6)), cube((8, 6, 6))
    options = {"spacing_mm": ANISOTROPIC, "tolerance_mm": 1.0}
    assert surface_dice(a, b, **options, areas=surfel_areas(ANISOTROPIC)) == surface_dice(a, b, **options)
