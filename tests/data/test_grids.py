"""Working grids and resampling: voxels stay voxels where they can, and nothing appears beyond what was measured."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813  (the name that its own documentation uses)

from medssl.data.grids import Grid, covered, resample, working_grid

TURN = nib.eulerangles.euler2mat(0.1, 0.2, 0.3)
NATIVE = Grid(shape=(9, 8, 5), affine=nib.affines.from_matvec(TURN @ np.diag([0.5, 0.5, 3.0]), [1, 2, 3]))


def _voxels(shape=NATIVE.shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def test_equal_spacing_copies_voxels_bit_by_bit():
    target = working_grid(NATIVE, spacing_mm=(0.5, 0.5, 3.0), shape=(5, 4, 3))
    moved = resample(_voxels(), NATIVE.affine, target)
    np.testing.assert_array_equal(moved, _voxels()[2:7, 2:6, 1:4])


def test_rounded_spacing_counts_as_equal():
    native = Grid(shape=NATIVE.shape, affine=NATIVE.affine @ np.diag([1.0003, 1, 1, 1]))
    target = working_grid(native, spacing_mm=(0.5, 0.5, 3.0), shape=(9, 8, 5))
    np.testing.assert_array_equal(resample(_voxels(), native.affine, target), _voxels())


def test_a_larger_crop_is_padded_with_zeros_evenly():
    target = working_grid(NATIVE, spacing_mm=(0.5, 0.5, 3.0), shape=(11, 10, 7))
    moved = resample(_voxels(), NATIVE.affine, target)
    np.testing.assert_array_equal(moved[1:-1, 1:-1, 1:-1], _voxels())
    assert not moved[0].any()
    assert not moved[:, :, -1].any()


def test_axes_are_turned_to_right_anterior_superior():
    flipped = nib.Nifti1Image(_voxels(), NATIVE.affine).as_reoriented(nib.orientations.axcodes2ornt("SLP"))
    native = Grid(shape=flipped.shape, affine=flipped.affine)
    target = working_grid(native, spacing_mm=(0.5, 0.5, 3.0), shape=NATIVE.shape)
    assert nib.aff2axcodes(target.affine) == ("R", "A", "S")
    np.testing.assert_array_equal(resample(flipped.get_fdata(), native.affine, target), _voxels())


def test_another_spacing_keeps_the_outer_faces():
    target = working_grid(NATIVE, spacing_mm=(1.0, 1.0, 3.0), shape=(4, 4, 5))
    first_corner = target.affine @ [-0.5, -0.5, -0.5, 1]
    # 9 voxels of 0.5 mm are 4.5 mm: 4 voxels of 1 mm begin at the same face
    np.testing.assert_allclose(first_corner, NATIVE.affine @ [-0.5, -0.5, -0.5, 1])


def test_the_centre_given_lies_in_the_middle_voxel():
    centre = (NATIVE.affine @ [2, 6, 1, 1])[:3]
    target = working_grid(NATIVE, spacing_mm=(0.5, 0.5, 3.0), shape=(5, 5, 3), centre_mm=centre)
    np.testing.assert_allclose((target.affine @ [2, 2, 1, 1])[:3], centre)


def _itk(voxels, affine):
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    spacing = np.sqrt((lps[:3, :3] ** 2).sum(0))
    image = sitk.GetImageFromArray(voxels.transpose(2, 1, 0))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    return image


@pytest.mark.parametrize("nearest", [False, True])
def test_resampling_to_an_oblique_grid_equals_itk(nearest):
    target = Grid(shape=(7, 6, 4), affine=nib.affines.from_matvec(np.diag([0.7, 0.6, 2.1]), [1.3, 2.2, 3.9]))
    source, reference = _voxels((12, 11, 6)), _itk(np.zeros(target.shape, np.float32), target.affine)
    interpolator = sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear
    expected = sitk.GetArrayFromImage(
        sitk.Resample(_itk(source, NATIVE.affine), reference, sitk.Transform(), interpolator, 0.0)
    ).transpose(2, 1, 0)
    moved = resample(source, NATIVE.affine, target, nearest=nearest)
    assert (expected != 0).sum() > 40
    np.testing.assert_allclose(moved, expected, atol=1e-5)


def test_cover_is_counted_to_the_outer_faces():
    target = Grid(shape=(13, 8, 5), affine=NATIVE.affine @ nib.affines.from_matvec(np.eye(3), [-2, 0, 0]))
    inside = covered(NATIVE.shape, NATIVE.affine, target)
    assert inside[:, 0, 0].tolist() == [False] * 2 + [True] * 9 + [False] * 2
    half = Grid(shape=(1, 1, 1), affine=NATIVE.affine @ nib.affines.from_matvec(np.eye(3), [-0.49, 0, 0]))
    assert covered(NATIVE.shape, NATIVE.affine, half).all()
