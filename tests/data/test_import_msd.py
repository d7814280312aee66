"""Folders of the Medical Segmentation Decathlon and of nnU-Net."""

import json

import numpy as np
import pytest
from faults.small_dataset import image, label, save

from medssl.core.errors import ConfigError
from medssl.data.import_cases import ImportOptions
from medssl.data.import_msd import import_msd


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate(("a_001", "b_002", "c_003")):
        save(tmp_path / "task" / "imagesTr" / f"{name}.nii.gz", image(seed))
    for name in ("a_001", "b_002"):
        save(tmp_path / "task" / "labelsTr" / f"{name}.nii.gz", label())
    save(tmp_path / "task" / "imagesTs" / "t_004.nii.gz", image(9))
    return tmp_path / "task"


def describe(folder, **content):
    (folder / "dataset.json").write_text(json.dumps(content))


def load(folder, **options):
    return import_msd(folder, ImportOptions(root=folder.parent, **options))


def ids(imported, part):
    return [case.id for case in imported.manifest.part(part)]


def codes(imported):
    return [finding.code for finding in imported.findings]


def test_cases_go_to_their_parts(folder):
    imported = load(folder)
    assert ids(imported, "training") == ["a_001", "b_002"]
    assert ids(imported, "unlabeled") == ["c_003"]
    assert ids(imported, "test") == ["t_004"]
    assert imported.manifest.training[0].label == "task/labelsTr/a_001.nii.gz"


def test_test_images_become_unlabeled_on_demand(folder):
    imported = load(folder, test_as_unlabeled=True)
    assert ids(imported, "unlabeled") == ["c_003", "t_004"]
    assert ids(imported, "test") == []


def test_labelled_test_images_stay_test_images(folder):
    save(folder / "labelsTs" / "t_004.nii.gz", label())
    assert ids(load(folder, test_as_unlabeled=True), "test") == ["t_004"]


def test_without_a_description_labels_are_scanned_and_that_is_said(folder):
    imported = load(folder)
    assert imported.manifest.labels == {"0": "background", "1": "label_1", "2": "label_2"}
    assert imported.manifest.name == "task"
    assert {"labels-scanned", "modality-unknown"} == set(codes(imported))


def test_the_decathlons_description_is_taken_over(folder):
    describe(folder, name="Hippo", modality={"0": "MRI"}, labels={"0": "background", "1": "x"}, licence="CC")
    imported = load(folder)
    assert imported.findings == []
    manifest = imported.manifest
    assert (manifest.name, manifest.modality, manifest.labels["1"], manifest.licence) == ("Hippo", "MRI", "x", "CC")


def test_the_user_goes_before_the_description(folder):
    describe(folder, name="Hippo", modality={"0": "MRI"}, labels={"0": "background", "1": "x"})
    manifest = load(folder, name="mine", modality="CT", labels={"0": "background", "1": "y"}).manifest
    assert (manifest.name, manifest.modality, manifest.labels["1"]) == ("mine", "CT", "y")


def test_channels_of_nnunet_join_into_one_case(tmp_path):
    describe_to = tmp_path / "task"
    for name in ("p1_0000", "p1_0001", "p2_0000", "p2_0001"):
        save(describe_to / "imagesTr" / f"{name}.nii.gz", image(0))
    save(describe_to / "labelsTr" / "p1.nii.gz", label())
    describe(describe_to, channel_names={"0": "T2", "1": "ADC"}, labels={"background": 0, "lesion": 1})
    manifest = load(describe_to).manifest
    assert manifest.training[0].image == ("task/imagesTr/p1_0000.nii.gz", "task/imagesTr/p1_0001.nii.gz")
    assert [case.id for case in manifest.unlabeled] == ["p2"]
    assert (manifest.modality, manifest.labels) == ("T2, ADC", {"0": "background", "1": "lesion"})


def test_four_digits_that_are_case_numbers_are_no_channels(tmp_path):
    for name in ("case_0000", "case_0001"):
        save(tmp_path / "task" / "imagesTr" / f"{name}.nii.gz", image(0))
        save(tmp_path / "task" / "labelsTr" / f"{name}.nii.gz", label())
    assert ids(load(tmp_path / "task"), "training") == ["case_0000", "case_0001"]


def test_unlabelled_scans_numbered_with_four_digits_are_no_channels(tmp_path):
    for name in ("case_0000", "case_0001"):
        save(tmp_path / "task" / "imagesTr" / f"{name}.nii.gz", image(0))
    assert ids(load(tmp_path / "task"), "unlabeled") == ["case_0000", "case_0001"]


def test_files_of_macos_and_text_files_are_passed_over_and_reported(folder):
    (folder / "imagesTr" / "._a_001.nii.gz").write_bytes(b"x")
    (folder / "imagesTr" / "readme.txt").write_text("x")
    imported = load(folder)
    assert ids(imported, "training") == ["a_001", "b_002"]
    assert {"file-hidden", "file-other"} <= set(codes(imported))


def test_a_label_without_an_image_is_reported(folder):
    save(folder / "labelsTr" / "lonely.nii.gz", label())
    assert "label-orphan" in codes(load(folder))


def test_a_4d_file_is_left_out_with_a_remedy(folder):
    save(folder / "imagesTr" / "a_001.nii.gz", np.zeros((4, 4, 4, 2), np.int16))
    imported = load(folder)
    (finding,) = [item for item in imported.findings if item.severity == "error"]
    assert (finding.code, finding.case) == ("image-dimensions", "a_001")
    assert "one file for each channel" in finding.fix
    assert ids(imported, "training") == ["b_002"]


def test_an_unreadable_label_does_not_stop_the_scan(folder):
    (folder / "labelsTr" / "a_001.nii.gz").write_bytes(b"")
    imported = load(folder)
    assert "file-empty" in codes(imported)
    assert set(imported.manifest.labels) == {"0", "1", "2"}


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"labels": {"whole": [1, 2]}}', '{"labels": {"0": "background", "x": "y"}}']
)
def test_a_description_that_cannot_be_used_is_named(folder, content):
    (folder / "dataset.json").write_text(content)
    with pytest.raises(ConfigError, match=r"dataset\.json"):
        load(folder)


def test_data_outside_the_root_is_refused_with_the_option(folder, tmp_path):
    with pytest.raises(ConfigError, match="--data-root"):
        import_msd(folder, ImportOptions(root=tmp_path / "elsewhere"))


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="imagesTr"):
        load(tmp_path)
    (tmp_path / "imagesTr").mkdir()
    with pytest.raises(ConfigError, match="no case"):
        load(tmp_path)


def test_real_hippocampus_cases_are_all_there(shared_data):
    folder = shared_data / "hippocampus"
    imported = import_msd(folder, ImportOptions(root=folder))
    assert len(imported.manifest.training) == 200
    assert set(imported.manifest.labels) == {"0", "1", "2"}
