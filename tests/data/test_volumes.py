"""Headers and voxels: what is read, and what is refused with which code."""

import gzip
import os
import struct
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from faults.broken_files import make_broken_files, run_without_root, write_good_file
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff

from medssl.core.errors import GeometryError, ImageError, MedsslError, ResourceError
from medssl.data import volumes
from medssl.data.volumes import read_header, read_volume

EXPECTED = {
    "truncated": "file-truncated",
    "text": "file-format",
    "two_d": "image-dimensions",
    "four_d": "image-dimensions",
    "rgb": "image-rgb",
    "nan_voxels": "image-not-finite",
    "zero_spacing": "spacing",
    "singular_affine": "affine",
    "huge_header": "file-oversized",
    "empty": "file-empty",
    "dangling_link": "file-missing",
}


def failure(path, **options) -> MedsslError:
    with pytest.raises(MedsslError) as caught:
        read_volume(path, **options)
    return caught.value


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    return make_broken_files(tmp_path_factory.mktemp("broken"))


@pytest.fixture
def good(tmp_path):
    return write_good_file(tmp_path / "good.nii.gz")


@pytest.mark.parametrize("fault", EXPECTED)
def test_each_fault_has_its_own_code_and_a_remedy(broken, fault):
    error = failure(broken[fault])
    assert error.code == EXPECTED[fault]
    assert broken[fault].name in error.text
    assert "expected" in error.text or "promises" in error.text
    assert error.fix and str(error) == f"{error.text} {error.fix}"
    assert str(broken[fault].parent) not in str(error)


def test_a_file_without_permission_is_refused(broken):
    path = broken["no_permission"]
    source = f"""
from pathlib import Path
from medssl.core.errors import ImageError
try:
    medssl.data.volumes.read_volume(Path({str(path)!r}))
except ImageError as error:
    print(error.code)
"""
    assert run_without_root(source, folder=path.parent).strip() == "file-permission"


def test_hostile_header_is_refused_before_memory_is_taken(broken):
    tracemalloc.start()
    failure(broken["huge_header"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


@pytest.mark.parametrize(("share", "code"), [(1.05, "file-oversized"), (0.95, "file-truncated")])
def test_the_bound_is_what_deflate_can_pack(tmp_path, good, share, code):
    content = bytearray(gzip.decompress(good.read_bytes()))
    path = tmp_path / "promise.nii.gz"
    voxels = int(len(gzip.compress(bytes(content))) * 1032 * share / 2)
    struct.pack_into("<3h", content, 42, voxels // 10000, 100, 100)
    path.write_bytes(gzip.compress(bytes(content)))
    assert failure(path).code == code


def test_a_file_that_vanishes_after_its_size_was_read_is_missing(good, monkeypatch):
    monkeypatch.setattr(Path, "open", lambda *_: (_ for _ in ()).throw(OSError(116, "Stale file handle")))
    assert failure(good).code == "file-missing"


def test_voxels_and_geometry_equal_nibabels(good):
    volume = read_volume(good)
    image = nib.load(good)
    assert np.array_equal(volume.voxels, np.asanyarray(image.dataobj))
    assert volume.voxels.dtype == np.int16
    assert np.allclose(volume.header.affine, image.affine)
    assert volume.header.spacing_mm == (1.0, 1.5, 2.0)


def test_a_real_scan_with_oblique_affine_equals_nibabels():
    path = Path(nib.__file__).parent / "tests" / "data" / "anatomical.nii"
    volume, image = read_volume(path), nib.load(path)
    assert np.allclose(volume.header.affine, image.affine)
    assert np.allclose(volume.voxels, image.get_fdata(), rtol=1e-6)


def test_nifti_2_is_read():
    path = Path(nib.__file__).parent / "tests" / "data" / "example_nifti2.nii.gz"
    assert failure(path).code == "image-dimensions"  # its shape is 4D: the header was understood


def test_big_endian_files_are_read_into_native_order(tmp_path):
    voxels = np.arange(24, dtype=">i2").reshape(2, 3, 4)
    nib.save(nib.Nifti1Image(voxels, np.eye(4), nib.Nifti1Header(endianness=">")), tmp_path / "big.nii.gz")
    result = read_volume(tmp_path / "big.nii.gz").voxels
    assert np.array_equal(result, voxels)
    assert result.dtype.isnative


@pytest.mark.parametrize(("stored", "kind"), [(np.int16, np.float32), (np.int32, np.float64)])
def test_scaled_values_come_as_floats(tmp_path, stored, kind):
    image = nib.Nifti1Image(np.arange(24, dtype=stored).reshape(2, 3, 4), np.eye(4))
    image.header.set_slope_inter(0.5, -10)
    nib.save(image, tmp_path / "scaled.nii")
    voxels = read_volume(tmp_path / "scaled.nii").voxels
    assert voxels.dtype == kind
    assert np.allclose(voxels, nib.load(tmp_path / "scaled.nii").get_fdata())


def test_a_trailing_dimension_of_one_counts_as_three(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((4, 3, 2, 1), np.uint8), np.eye(4)), tmp_path / "one.nii.gz")
    assert read_volume(tmp_path / "one.nii.gz").voxels.shape == (4, 3, 2)


def test_a_path_with_a_nul_is_a_missing_file(tmp_path):
    assert failure(tmp_path / "a\0.nii.gz").code == "file-missing"


@pytest.mark.parametrize("unit", ["meter", "micron", "mm", "unknown"])
def test_lengths_that_are_no_millimetres_are_refused(tmp_path, good, unit):
    image = nib.load(good)
    image.header.set_xyzt_units(unit, "sec")
    nib.save(image, tmp_path / "x.nii.gz")
    if unit in ("mm", "unknown"):
        assert read_header(tmp_path / "x.nii.gz").spacing_mm == (1.0, 1.5, 2.0)
    else:
        assert failure(tmp_path / "x.nii.gz").code == "units"


@pytest.mark.parametrize("spacing", [-1.0, float("nan"), float("inf"), 0.0])
def test_spacing_that_is_not_positive_is_refused(tmp_path, good, spacing):
    content = bytearray(gzip.decompress(good.read_bytes()))
    struct.pack_into("<f", content, 80, spacing)
    (tmp_path / "bad.nii").write_bytes(content)
    with pytest.raises(GeometryError) as caught:
        read_header(tmp_path / "bad.nii")
    assert caught.value.code == "spacing"


def test_affine_with_parallel_axes_is_refused(tmp_path):
    affine = np.array([[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], float)
    image = nib.Nifti1Image(np.ones((3, 3, 3), np.uint8), np.eye(4))
    image.header.set_sform(affine, code=1)
    nib.save(nib.Nifti1Image(image.dataobj, None, image.header), tmp_path / "flat.nii.gz")
    assert failure(tmp_path / "flat.nii.gz").code == "affine"


def test_uncompressed_file_that_lost_its_end_is_truncated(tmp_path, good):
    content = gzip.decompress(good.read_bytes())
    (tmp_path / "short.nii").write_bytes(content[:-1])
    assert failure(tmp_path / "short.nii").code == "file-truncated"


def test_wrong_checksum_is_noticed(tmp_path, good):
    content = bytearray(good.read_bytes())
    content[-8] ^= 0xFF
    (tmp_path / "crc.nii.gz").write_bytes(content)
    assert failure(tmp_path / "crc.nii.gz").code == "file-format"


def test_damaged_stream_is_noticed(tmp_path, good):
    content = bytearray(good.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 64] = b"\xff" * 64
    (tmp_path / "damaged.nii.gz").write_bytes(content)
    assert failure(tmp_path / "damaged.nii.gz").code in {"file-format", "file-truncated"}


@pytest.mark.parametrize(("name", "found"), [("plain.nii.gz", "no gzip file"), ("packed.nii", "a gzip file")])
def test_suffix_that_does_not_fit_the_content_is_named(tmp_path, good, name, found):
    content = good.read_bytes()
    (tmp_path / name).write_bytes(gzip.decompress(content) if name == "plain.nii.gz" else content)
    assert found in failure(tmp_path / name).text


def test_folder_and_pipe_are_no_images(tmp_path):
    (tmp_path / "folder.nii.gz").mkdir()
    assert failure(tmp_path / "folder.nii.gz").code == "file-kind"
    os.mkfifo(tmp_path / "pipe.nii.gz")
    assert failure(tmp_path / "pipe.nii.gz").code == "file-kind"


def test_loop_of_links_is_refused(tmp_path):
    (tmp_path / "a.nii.gz").symlink_to(tmp_path / "b.nii.gz")
    (tmp_path / "b.nii.gz").symlink_to(tmp_path / "a.nii.gz")
    assert failure(tmp_path / "a.nii.gz").code == "file-missing"


def test_unknown_suffix_lists_the_known_ones(tmp_path):
    (tmp_path / "image.jpg").write_bytes(b"x")
    assert ".mha" in failure(tmp_path / "image.jpg").text


def test_complex_voxels_are_refused(tmp_path):
    nib.save(nib.Nifti1Image(np.ones((3, 3, 3), np.complex64), np.eye(4)), tmp_path / "complex.nii.gz")
    assert failure(tmp_path / "complex.nii.gz").code == "image-type"


def test_volume_larger_than_free_memory_is_refused(good, monkeypatch):
    monkeypatch.setattr(volumes.psutil, "virtual_memory", lambda: type("Free", (), {"available": 1000}))
    with pytest.raises(ResourceError, match="GiB are free"):
        read_volume(good)


def test_not_finite_voxels_can_be_let_through(broken):
    assert np.isnan(read_volume(broken["nan_voxels"], finite=False).voxels).sum() == 1


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_itk_formats_lie_on_the_same_grid_as_nifti(tmp_path, suffix):
    image = sitk.GetImageFromArray(np.arange(24, dtype=np.int16).reshape(4, 3, 2))
    image.SetSpacing((1.0, 1.5, 2.0))
    image.SetOrigin((10.0, 20.0, 30.0))
    image.SetDirection((0, 1, 0, 1, 0, 0, 0, 0, -1))
    for name in (f"image{suffix}", "image.nii.gz"):
        sitk.WriteImage(image, str(tmp_path / name))
    ours, nifti = read_volume(tmp_path / f"image{suffix}"), read_volume(tmp_path / "image.nii.gz")
    assert np.array_equal(ours.voxels, nifti.voxels)
    assert np.allclose(ours.header.affine, nifti.header.affine)
    assert ours.header.dtype == np.int16


@pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
def test_broken_itk_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"image{suffix}"
    sitk.WriteImage(sitk.GetImageFromArray(np.random.default_rng(0).random((9, 9, 9))), str(path))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert failure(path).code in {"file-truncated", "file-oversized"}
    path.write_bytes(b"just text")
    assert failure(path).code == "file-format"


def test_itk_header_that_points_to_another_file_is_refused(tmp_path):
    sitk.WriteImage(sitk.Image(3, 3, 3, sitk.sitkUInt8), str(tmp_path / "image.mhd"))
    (tmp_path / "image.mha").write_bytes((tmp_path / "image.mhd").read_bytes())
    assert failure(tmp_path / "image.mha").code == "file-format"


def test_hostile_itk_header_is_refused_from_its_header(tmp_path):
    path = tmp_path / "huge.mha"
    sitk.WriteImage(sitk.Image(3, 3, 3, sitk.sitkUInt8), str(path))
    path.write_bytes(path.read_bytes().replace(b"DimSize = 3 3 3", b"DimSize = 10000 10000 10000"))
    assert failure(path).code == "file-oversized"


@pytest.mark.parametrize("kind", [sitk.sitkVectorUInt8, sitk.sitkComplexFloat32])
def test_itk_colours_and_complex_numbers_are_refused(tmp_path, kind):
    sitk.WriteImage(sitk.Image([3, 3, 3], kind), str(tmp_path / "image.mha"))
    assert failure(tmp_path / "image.mha").code in {"image-rgb", "image-type"}


@settings(max_examples=48, deadline=None)
@given(axes=st.permutations([0, 1, 2]), flips=st.tuples(*[st.sampled_from([1, -1])] * 3))
def test_orientation_is_read_from_any_of_the_48_affines(tmp_path_factory, axes, flips):
    codes = tuple(["RL", "AP", "SI"][axis][0 if flip > 0 else 1] for axis, flip in zip(axes, flips, strict=True))
    affine = inv_ornt_aff(axcodes2ornt(codes), (3, 4, 5)) @ np.eye(4)
    path = tmp_path_factory.getbasetemp() / "oriented.nii"
    nib.save(nib.Nifti1Image(np.ones((3, 4, 5), np.uint8), affine), path)
    assert read_header(path).orientation == "".join(nib.aff2axcodes(affine))


@settings(max_examples=150, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=6))
def test_no_header_whatever_its_bytes_gets_past_the_checks(tmp_path_factory, changes):
    content = bytearray(gzip.decompress(write_good_file(tmp_path_factory.getbasetemp() / "f.nii.gz").read_bytes()))
    for position, value in changes:
        content[position] = value
    path = tmp_path_factory.getbasetemp() / "f.nii"
    path.write_bytes(content)
    try:
        volume = read_volume(path)
    except MedsslError as error:
        assert error.code != "error" and error.fix
    else:
        assert volume.voxels.shape == volume.header.shape
        assert np.isfinite(volume.voxels).all()


def test_errors_survive_the_way_back_from_a_worker():
    import pickle

    error = pickle.loads(pickle.dumps(ImageError("text", fix="fix", code="file-empty")))
    assert (error.text, error.fix, error.code, str(error)) == ("text", "fix", "file-empty", "text fix")
