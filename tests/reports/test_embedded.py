"""Embedded volumes keep values and place, name no one, and have a stated limit."""

from __future__ import annotations

import base64
import gzip

import nibabel as nib
import numpy as np
import pytest

from medssl.core.errors import ResourceError
from medssl.reports.case_volumes import CaseVolumes
from medssl.reports.embedded import embed
from medssl.reports.images import Volume, read_volume


def _case(values, labels=None, *, reference=None, affine=None):
    image = Volume(values, (1.0, 1.0, 1.0), np.eye(4) if affine is None else affine)
    labels = np.zeros(values.shape, np.uint8) if labels is None else labels
    return CaseVolumes(id="a", image=image, prediction=labels, reference=reference, names={}, modality="MR")


def _unpack(text):
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


@pytest.fixture
def labels():
    labels = np.zeros((12, 14, 16), np.int16)
    labels[4:6, 5:9, 6:8] = 300
    labels[4:6, 5:9, 8:9] = 7
    return labels


def test_values_and_place_are_kept(labels):
    affine = np.array([[0.9, 0.1, 0, -3], [-0.1, 0.9, 0, 5], [0, 0, 2.0, 7], [0, 0, 0, 1]])
    values = np.random.default_rng(0).integers(-1000, 3000, labels.shape).astype(np.int16)
    packed = embed(_case(values, labels, reference=labels, affine=affine), [7, 300])
    image = _unpack(packed.image)
    assert np.array_equal(image.dataobj, values) and np.allclose(image.affine, affine, atol=1e-6)
    assert packed.shape == values.shape and packed.notes == ()
    assert packed.prediction == packed.reference


def test_structures_are_numbered_in_their_order(labels):
    found = np.asarray(_unpack(embed(_case(labels, labels), [7, 300]).prediction).dataobj)
    assert found.dtype == np.uint8
    assert np.array_equal(found == 1, labels == 7) and np.array_equal(found == 2, labels == 300)


def test_no_text_of_the_file_is_taken_over(tmp_path):
    image = nib.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4))
    for field in ("descrip", "aux_file", "intent_name", "db_name"):
        image.header[field] = b"DOE^JANE"
    image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", b"DOE^JANE 1970-01-01"))
    nib.save(image, tmp_path / "DOE^JANE.nii")
    assert (tmp_path / "DOE^JANE.nii").read_bytes().count(b"DOE^JANE") == 5
    volume = read_volume(tmp_path / "DOE^JANE.nii")
    case = CaseVolumes(id="a", image=volume, prediction=volume.values, reference=None, names={}, modality="MR")
    packed = base64.b64decode(embed(case, [1]).image)
    header = nib.Nifti1Image.from_bytes(gzip.decompress(packed)).header
    assert b"DOE" not in packed and b"DOE" not in gzip.decompress(packed)
    assert len(header.extensions) == 0
    assert not any(header[field].item() for field in ("descrip", "aux_file", "intent_name", "db_name"))


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int32, np.uint8])
def test_whole_numbers_stay_what_they_are(kind):
    values = np.arange(60, dtype=kind).reshape(3, 4, 5)
    packed = embed(_case(values), [])
    assert np.array_equal(_unpack(packed.image).dataobj, values) and packed.notes == ()
    assert _unpack(packed.image).get_data_dtype().itemsize <= 2


def test_fractions_are_shown_in_steps_that_are_stated():
    values = np.random.default_rng(0).normal(size=(8, 9, 10)).astype(np.float32)
    packed = embed(_case(values), [])
    step = (values.max() - values.min()) / 65535
    assert np.abs(_unpack(packed.image).get_fdata() - values).max() <= 0.51 * step
    assert packed.notes == (f"Grey values are shown in steps of {step:.3g}.",)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_become_the_darkest(value):
    values = np.full((3, 3, 3), 5.0)
    values[0, 0, 0], values[1, 1, 1] = value, 2.0
    assert np.asarray(_unpack(embed(_case(values), []).image).dataobj)[0, 0, 0] == 2
    assert not np.asarray(_unpack(embed(_case(np.full((2, 2, 2), value)), []).image).dataobj).any()


def test_large_volume_is_cut_to_its_structures_and_says_so(labels):
    values = np.zeros((12, 14, 200), np.int16)
    tall = np.zeros(values.shape, np.int16)
    tall[:, :, 100:116] = labels
    values[tall > 0] = 1
    packed = embed(_case(values, tall), [7, 300], most_voxels=12 * 14 * 70)
    image = _unpack(packed.image)
    assert packed.notes == ("Cut to the structures with 30 mm around them: 12 x 14 x 63 of 12 x 14 x 200 voxels.",)
    assert image.affine[2, 3] == packed.first[2] == 106 - 30
    assert np.array_equal(np.asarray(image.dataobj) > 0, np.asarray(_unpack(packed.prediction).dataobj) > 0)


def test_too_large_volume_and_too_many_structures_are_refused(labels):
    with pytest.raises(ResourceError, match="expected at most 100 voxels in a viewer page, found 12 x 14 x 16"):
        embed(_case(labels, labels), [7, 300], most_voxels=100)
    with pytest.raises(ResourceError, match="at most 255 structures"):
        embed(_case(labels, labels), list(range(1, 300)))
