"""Volumes turn to the patient's axes, whatever the file's."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from faults.broken_files import make_broken_files

from medssl.core.errors import GeometryError, ImageError
from medssl.reports.images import read_volume, require_same_grid


@pytest.fixture
def ras() -> nib.Nifti1Image:
    values = np.arange(3 * 4 * 5, dtype=np.int16).reshape(3, 4, 5)
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    affine[:3, 3] = (-7, 5, 11)
    return nib.Nifti1Image(values, affine)


@pytest.mark.parametrize("codes", ["LPS", "PIR", "SAL", "RAS"])
def test_orientation_of_the_file_does_not_matter(ras, tmp_path, codes):
    turn = nib.orientations.ornt_transform(
        nib.orientations.io_orientation(ras.affine), nib.orientations.axcodes2ornt(codes)
    )
    nib.save(ras.as_reoriented(turn), tmp_path / "x.nii.gz")
    volume = read_volume(tmp_path / "x.nii.gz")
    assert np.array_equal(volume.values, ras.dataobj)
    assert volume.spacing_mm == pytest.approx((1, 2, 3))
    assert np.allclose(volume.affine, ras.affine)


def test_other_formats_give_the_same_volume(ras, tmp_path):
    nib.save(ras, tmp_path / "x.nii")
    SimpleITK.WriteImage(SimpleITK.ReadImage(str(tmp_path / "x.nii")), str(tmp_path / "x.mha"))
    volume = read_volume(tmp_path / "x.mha")
    assert np.array_equal(volume.values, ras.dataobj)
    assert np.allclose(volume.affine, ras.affine)


@pytest.mark.parametrize("name", ["x.nii.gz", "x.mha"])
def test_unreadable_file_is_named_without_its_folder(tmp_path, name):
    (tmp_path / name).write_bytes(b"no image")
    with pytest.raises(ImageError, match=f"^{name}: expected"):
        read_volume(tmp_path / name)


def test_truncated_volume_is_refused(ras, tmp_path):
    nib.save(ras, tmp_path / "x.nii.gz")
    whole = (tmp_path / "x.nii.gz").read_bytes()
    (tmp_path / "x.nii.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="found the end of the file"):
        read_volume(tmp_path / "x.nii.gz")


def test_other_position_or_size_is_another_grid(ras, tmp_path):
    nib.save(ras, tmp_path / "a.nii")
    moved = ras.affine.copy()
    moved[0, 3] += 1
    nib.save(nib.Nifti1Image(np.asarray(ras.dataobj), moved), tmp_path / "b.nii")
    a, b = read_volume(tmp_path / "a.nii"), read_volume(tmp_path / "b.nii")
    require_same_grid(a, a, name="the label map")
    with pytest.raises(GeometryError, match="the label map lies on another grid"):
        require_same_grid(a, b, name="the label map")


def test_flat_picture_is_no_volume(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((5, 5), np.uint8), np.eye(4)), tmp_path / "x.nii")
    with pytest.raises(ImageError, match=r"expected a 3D image, found 2D \(5 x 5\)"):
        read_volume(tmp_path / "x.nii")


def test_several_time_points_are_no_volume(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((2, 3, 4, 2), np.uint8), np.eye(4)), tmp_path / "x.nii")
    with pytest.raises(ImageError, match="expected a 3D image, found 4D"):
        read_volume(tmp_path / "x.nii")


def test_a_header_that_promises_a_terabyte_costs_nothing(tmp_path):
    path = make_broken_files(tmp_path)["huge_header"]
    with pytest.raises(ImageError, match="the header promises"):
        read_volume(path)
