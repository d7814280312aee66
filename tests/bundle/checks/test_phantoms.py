from pathlib import Path

import nibabel as nib
import numpy as np

from medssl.bundle.checks.phantoms import image_path, phantom_shape, write_phantom_cases, write_phantom_image
from medssl.bundle.checks.subject import Subject
from medssl.data.manifest import load_manifest


def test_cases_have_every_class_of_the_bundle(runnable: Path, tmp_path: Path) -> None:
    path = write_phantom_cases(tmp_path, Subject(runnable))
    case = load_manifest(path).training[0]
    assert np.unique(nib.load(tmp_path / str(case.label)).get_fdata()).tolist() == [0, 1, 2]


def test_last_class_is_left_out_of_one_reference_only(runnable: Path, tmp_path: Path) -> None:
    manifest = load_manifest(write_phantom_cases(tmp_path, Subject(runnable), leave_out_last=True))
    largest = [nib.load(tmp_path / str(case.label)).get_fdata().max() for case in manifest.validation]
    assert largest == [1, 2]


def test_broken_cases_are_nan_in_training_only(runnable: Path, tmp_path: Path) -> None:
    manifest = load_manifest(write_phantom_cases(tmp_path, Subject(runnable), broken=True))
    assert np.isnan(nib.load(tmp_path / manifest.training[0].image[0]).get_fdata()).all()
    assert np.isfinite(nib.load(tmp_path / manifest.validation[0].image[0]).get_fdata()).all()


def test_unlabelled_cases_are_listed_when_asked_for(runnable: Path, tmp_path: Path) -> None:
    manifest = load_manifest(write_phantom_cases(tmp_path, Subject(runnable), unlabeled=True))
    assert [case.label for case in manifest.unlabeled] == [None, None]


def test_several_channels_are_several_files(tmp_path: Path) -> None:
    (item,) = write_phantom_image(tmp_path / "p.nii.gz", channels=3, shape=(4, 4, 4))
    assert len(item) == 3
    assert image_path(item) == item[0]


def test_phantom_is_larger_than_the_patch(runnable: Path) -> None:
    assert phantom_shape(Subject(runnable)) == (22, 22, 22)
