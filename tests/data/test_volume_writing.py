"""Outputs keep the place of the input, carry no text of it, and are read again before they get their name."""

import nibabel as nib
import numpy as np
import pytest

from medssl.core.errors import GeometryError
from medssl.data import volume_writing
from medssl.data.grids import Grid
from medssl.data.volume_writing import place_fields, write_volume

LABELS = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.fixture
def source(tmp_path):
    header = nib.Nifti1Header()
    header["descrip"], header["aux_file"], header["db_name"] = b"JANE DOE 1950", b"doe.hdr", b"doe"
    header["intent_name"] = b"doe"
    rotation = nib.eulerangles.euler2mat(0.3, 0.2, 0.1)
    affine = nib.affines.from_matvec(rotation @ np.diag([1.0, 2.0, 3.0]), [5, -6, 7])
    image = nib.Nifti1Image(np.zeros((2, 3, 4), np.int16), affine, header)
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=4)
    path = tmp_path / "source.nii.gz"
    nib.save(image, path)
    return path


def _grid(path):
    image = nib.load(path)
    return Grid(shape=image.shape, affine=image.affine)


def test_affine_and_codes_are_kept(source, tmp_path):
    write_volume(tmp_path / "out.nii.gz", LABELS, grid=_grid(source), place=place_fields(source))
    written, original = nib.load(tmp_path / "out.nii.gz"), nib.load(source)
    assert np.array_equal(written.affine, original.affine)
    assert (int(written.header["qform_code"]), int(written.header["sform_code"])) == (1, 4)
    assert np.array_equal(written.get_qform(), original.get_qform())
    assert written.get_data_dtype() == np.uint8


def test_no_text_of_the_input_reaches_the_output(source, tmp_path):
    write_volume(tmp_path / "out.nii.gz", LABELS, grid=_grid(source), place=place_fields(source))
    header = nib.load(tmp_path / "out.nii.gz").header
    texts = [header[name].item() for name in ("descrip", "aux_file", "db_name", "intent_name")]
    assert texts == [b"", b"", b"", b""]
    assert not header.extensions


def test_other_formats_get_both_forms_from_the_affine(tmp_path):
    grid = Grid(shape=(2, 3, 4), affine=np.diag([-1.0, -1.0, 2.0, 1.0]))
    write_volume(tmp_path / "out.nii.gz", LABELS, grid=grid, place=place_fields(tmp_path / "source.mha"))
    written = nib.load(tmp_path / "out.nii.gz")
    assert np.allclose(written.affine, grid.affine)
    assert np.allclose(written.get_qform(), grid.affine)


def test_probabilities_have_the_classes_last(source, tmp_path):
    values = np.random.default_rng(0).random((2, 3, 4, 5)).astype(np.float32)
    write_volume(tmp_path / "out.nii.gz", values, grid=_grid(source), place=place_fields(source))
    assert np.array_equal(nib.load(tmp_path / "out.nii.gz").get_fdata(dtype=np.float32), values)


@pytest.mark.parametrize(
    ("shape", "affine", "code"), [((2, 3, 5), None, "output-shape"), ((2, 3, 4), np.eye(4), "output-affine")]
)
def test_an_output_on_another_grid_is_refused_and_removed(source, tmp_path, shape, affine, code):
    grid = Grid(shape=shape, affine=_grid(source).affine if affine is None else affine)
    with pytest.raises(GeometryError) as caught:
        write_volume(tmp_path / "out.nii.gz", LABELS, grid=grid, place=place_fields(source))
    assert caught.value.code == code
    assert [path.name for path in tmp_path.iterdir()] == ["source.nii.gz"]


def test_voxels_that_read_back_differently_are_refused(source, tmp_path, monkeypatch):
    def save_damaged(image, path):
        nib.Nifti1Image(np.asarray(image.dataobj) + 1, None, image.header).to_filename(path)

    monkeypatch.setattr(volume_writing.nib, "save", save_damaged)
    with pytest.raises(GeometryError, match="voxels just written"):
        write_volume(tmp_path / "out.nii.gz", LABELS, grid=_grid(source), place=place_fields(source))
    assert not (tmp_path / "out.nii.gz").exists()
