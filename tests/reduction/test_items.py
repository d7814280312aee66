"""Slices in anatomical order, windows, empty slices, 2D images, and files that are not what they should be."""

import nibabel as nib
import numpy as np
import pytest
from faults.small_dataset import save
from PIL import Image

from medssl.core.errors import ImageError, MedsslError
from medssl.data.manifest import Case
from medssl.data.volumes import read_volume
from medssl.reduction.hashing import dhash
from medssl.reduction.items import ItemTask, axial_slices, kind_of, read_items, to_grey


def body(depth=6, *, seed=0):
    """A CT of noise in air: HU from -1000 to 400, its first slice empty."""
    voxels = np.random.default_rng(seed).integers(-1000, 400, (20, 16, depth)).astype(np.int16)
    voxels[..., 0] = -1000
    return voxels


def task(root, name, **fields):
    return ItemTask(root=root, case=Case(id="a", image=name), **{"modality": "CT", **fields})


def test_slices_run_from_inferior_to_superior_with_rows_to_anterior(tmp_path):
    voxels = np.zeros((4, 3, 2), np.int16)
    voxels[3, 0, 1] = 7
    slices = axial_slices(read_volume(save(tmp_path / "a.nii.gz", voxels)))
    assert slices.shape == (2, 3, 4)
    assert slices[1, 0, 3] == 7


@pytest.mark.parametrize("axes", ["LPS", "SAR", "IPL", "ASL"])
def test_the_stored_orientation_does_not_matter(tmp_path, axes):
    image = nib.Nifti1Image(body(), np.diag([2.0, 2.0, 3.0, 1.0]))
    nib.save(image, tmp_path / "ras.nii.gz")
    target = nib.orientations.axcodes2ornt(axes)
    turned = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), target))
    nib.save(turned, tmp_path / "other.nii.gz")
    first, second = (read_items(task(tmp_path, name)) for name in ("ras.nii.gz", "other.nii.gz"))
    assert np.array_equal(first.descriptors, second.descriptors)
    assert first.positions_mm.tolist() == second.positions_mm.tolist() == [0, 3, 6, 9, 12, 15]


def test_the_window_of_integers_is_rounded_as_in_float64():
    values = np.arange(-1100, 500, dtype=np.int16).reshape(1, 40, 40)
    expected = np.rint(np.clip((values.astype(float) + 1000) / 1400, 0, 1) * 255)
    assert np.array_equal(to_grey(values, window=(-1000, 400)), expected)
    assert np.array_equal(to_grey(values.astype(np.float32), window=(-1000, 400)), expected)


def test_a_slice_window_takes_each_slice_from_its_minimum_to_its_maximum():
    values = np.array([[[0, 50], [100, 100]], [[-3000, -1024], [976, 0]]], np.int16)
    grey = to_grey(values, window="slice", padded=True)
    assert grey.tolist() == [[[0, 128], [255, 255]], [[0, 0], [255, 131]]]


def test_slices_of_air_are_empty(tmp_path):
    voxels = body()
    voxels[..., 3] = np.random.default_rng(1).integers(-1000, -600, (20, 16))
    save(tmp_path / "a.nii.gz", voxels)
    assert read_items(task(tmp_path, "a.nii.gz")).empty.tolist() == [True, False, False, True, False, False]


def test_a_volume_without_hu_is_named_and_taken_from_its_own_range(tmp_path):
    save(tmp_path / "a.nii.gz", (body() + 1000).clip(0))
    items = read_items(task(tmp_path, "a.nii.gz"))
    assert [finding.code for finding in items.findings] == ["no-hu"]
    assert len(set(items.descriptors.tolist())) == 6
    assert read_items(task(tmp_path, "a.nii.gz", modality="MR")).findings == []


def test_8_bit_values_are_hashed_as_they_are(tmp_path):
    voxels = np.random.default_rng(2).integers(20, 90, (12, 10, 3)).astype(np.uint8)
    save(tmp_path / "a.nii.gz", voxels)
    items = read_items(task(tmp_path, "a.nii.gz"))
    assert [finding.code for finding in items.findings] == ["no-hu"]
    assert np.array_equal(items.descriptors, dhash(voxels.transpose(2, 1, 0)))


def test_images_are_one_slice_each(tmp_path):
    pixels = np.random.default_rng(3).integers(0, 256, (30, 40), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    items = read_items(task(tmp_path, "a.png", modality="X-ray", size=16))
    assert items.descriptors.shape == (1, 16, 16)
    assert items.shape == (30, 40) and np.isnan(items.positions_mm).all()


def test_16_bit_images_keep_their_depth(tmp_path):
    pixels = np.tile(np.arange(40, dtype=np.uint16) * 1000, (30, 1))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert read_items(task(tmp_path, "a.png", modality="X-ray")).descriptors.tolist() == [2**64 - 1]


def test_whole_volumes_are_one_item_of_31_slices(tmp_path):
    save(tmp_path / "a.nii.gz", body(depth=9))
    items = read_items(task(tmp_path, "a.nii.gz", unit="volume"))
    assert items.descriptors.shape == (1, 31)
    assert items.empty.tolist() == [False]


@pytest.mark.parametrize("name", ["none.png", "broken.png", "broken.nii.gz", "none.nii.gz", "nan.nii.gz"])
def test_unreadable_files_are_errors_with_a_name(tmp_path, name):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "broken.nii.gz").write_bytes(b"no gzip")
    save(tmp_path / "nan.nii.gz", np.full((3, 3, 3), np.nan, np.float32))
    with pytest.raises(MedsslError, match=name):
        read_items(task(tmp_path, name))


def test_values_beyond_8_bits_cannot_be_taken_as_they_are(tmp_path):
    save(tmp_path / "a.nii.gz", body())
    with pytest.raises(ImageError, match="8-bit"):
        read_items(task(tmp_path, "a.nii.gz", window="none"))


def test_kinds_of_values():
    assert kind_of(np.array([-1000, 3000], np.int16)) == "HU"
    assert kind_of(np.array([0.0, 255.0])) == "8-bit"
    assert kind_of(np.array([0.0, 0.5])) == kind_of(np.array([0, 900])) == "other"


@pytest.mark.shared
def test_real_ct_keeps_the_published_counts(shared_data):
    from medssl.reduction.selection import greedy
    from medssl.reduction.similarity import HammingMeasure

    folder = shared_data / "ct"
    for name, expected in (("chest_abdomen_256", (142, 53, 20, 11)), ("example_ct", (94, 53, 22, 12))):
        hashes = HammingMeasure(read_items(task(folder, f"{name}.nii.gz")).descriptors)
        assert tuple(greedy(hashes, threshold=t).kept.sum() for t in (0, 2, 6, 10)) == expected


@pytest.mark.parametrize("axes", ["RAS", "SAR", "ASL"])
def test_the_outline_is_that_of_the_body_however_it_is_stored(tmp_path, axes):
    image = nib.Nifti1Image(body(8), np.diag([2.0, 1.0, 3.0, 1.0]))
    target = nib.orientations.axcodes2ornt(axes)
    turned = image.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(image.affine), target))
    for name, content in (("ras", image), ("turned", turned)):
        nib.save(content, tmp_path / f"{name}.nii.gz")
    found = [read_items(task(tmp_path, f"{name}.nii.gz", outline_step=2.0)) for name in ("ras", "turned")]
    assert np.array_equal(found[0].outline, found[1].outline)
    assert np.array_equal(found[0].fine, found[1].fine)
    filled = np.argwhere(found[0].outline != 0).max(axis=0) + 1
    assert filled.tolist() == [12, 8, 20]  # Z, Y, X: 8 x 3 mm, 16 x 1 mm and 20 x 2 mm in steps of 2 mm


@pytest.mark.parametrize(
    ("kind", "window"), [(np.uint16, (-1000, 400)), (np.int16, (-0.5, 99.5)), (np.int8, (-1000, 400))]
)
def test_windows_that_the_stored_type_cannot_hold_are_those_of_float64(kind, window):
    values = np.random.default_rng(0).integers(0, 120, (2, 9, 7)).astype(kind)
    low, high = window
    expected = np.rint((np.clip(values.astype(np.float64), low, high) - low) * (255 / (high - low)))
    assert np.abs(to_grey(values, window=window).astype(float) - expected).max() <= 1
    exact = to_grey(values.astype(np.float32), window=window)
    assert np.array_equal(to_grey(values, window=window), exact)


def test_no_outline_is_made_unless_asked_for(tmp_path):
    save(tmp_path / "a.nii.gz", body())
    found = read_items(task(tmp_path, "a.nii.gz"))
    assert (found.fine, found.outline) == (None, None)
