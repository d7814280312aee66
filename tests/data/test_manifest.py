"""The manifest is strict, and every problem of one is named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medssl.core.errors import ManifestError
from medssl.data.manifest import Manifest, load_manifest, resolve_image, resolve_label, save_manifest

_GOOD = {
    "name": "small",
    "modality": "MR",
    "labels": {"0": "background", "1": "organ"},
    "training": [{"id": "a", "image": "a.nii.gz", "label": "al.nii.gz", "class": 2, "patient": "p"}],
    "unlabeled": [{"id": "u", "image": ["u0.nii.gz", "u1.nii.gz"]}],
}


def _load(tmp_path: Path, **changes: object) -> Manifest:
    (tmp_path / "m.json").write_text(json.dumps({**_GOOD, **changes}))
    return load_manifest(tmp_path / "m.json")


def _refusal(tmp_path: Path, **changes: object) -> str:
    with pytest.raises(ManifestError) as error:
        _load(tmp_path, **changes)
    return str(error.value)


def test_a_manifest_survives_saving_and_loading(tmp_path: Path) -> None:
    manifest = _load(tmp_path)
    save_manifest(tmp_path / "copy.json", manifest)
    assert load_manifest(tmp_path / "copy.json") == manifest
    written = json.loads((tmp_path / "copy.json").read_text())
    assert written["training"][0]["image"] == "a.nii.gz"
    assert written["training"][0]["class"] == 2
    assert manifest.sha256() == load_manifest(tmp_path / "copy.json").sha256()


def test_monai_reads_what_is_saved(tmp_path: Path) -> None:
    from monai.data import load_decathlon_datalist

    save_manifest(tmp_path / "m.json", _load(tmp_path))
    entry = load_decathlon_datalist(str(tmp_path / "m.json"), data_list_key="training")[0]
    assert entry["image"] == str(tmp_path / "a.nii.gz")


def test_an_unknown_key_is_an_error_with_the_nearest_name(tmp_path: Path) -> None:
    text = _refusal(tmp_path, trainning=[])
    assert 'trainning: unknown key. Did you mean "training"?' in text
    case = {"id": "a", "image": "a.nii", "lable": "l.nii"}
    assert 'training.0.lable: unknown key. Did you mean "label"?' in _refusal(tmp_path, training=[case])


def test_all_problems_are_named_at_once(tmp_path: Path) -> None:
    text = _refusal(tmp_path, modality=7, training=[{"id": "", "image": []}])
    assert "modality" in text
    assert "training.0.id" in text
    assert "training.0.image" in text


@pytest.mark.parametrize("case_id", ["a/b", "..", ".hidden", "a\\b", "a\nb"])
def test_an_id_that_is_no_file_name_is_refused(tmp_path: Path, case_id: str) -> None:
    assert "training.0.id" in _refusal(tmp_path, training=[{"id": case_id, "image": "a.nii"}])


def test_repeated_ids_and_label_names_are_refused(tmp_path: Path) -> None:
    twice = [{"id": "a", "image": "a.nii"}] * 2
    assert "repeated: a" in _refusal(tmp_path, training=twice)
    assert "label names must differ" in _refusal(tmp_path, labels={"0": "bg", "1": "Organ", "2": "organ"})
    assert "'x' is not a whole number" in _refusal(tmp_path, labels={"x": "organ"})


@pytest.mark.parametrize("value", ["01", "\u0661", "\u00b9", "99999", "-1"])
def test_a_label_value_that_no_voxel_is_looked_up_by_is_refused(tmp_path: Path, value: str) -> None:
    assert "is not a whole number" in _refusal(tmp_path, labels={"0": "background", value: "organ"})


def test_the_name_of_the_mean_over_classes_is_taken(tmp_path: Path) -> None:
    assert "is taken" in _refusal(tmp_path, labels={"0": "background", "1": "mean"})


@pytest.mark.parametrize("change", [{"image": "a\0.nii"}, {"label": "a\0.nii"}, {"label": ""}, {"patient": ""}])
def test_what_names_no_file_or_nobody_is_refused(tmp_path: Path, change: dict[str, str]) -> None:
    case = {"id": "a", "image": "a.nii", **change}
    assert f"training.0.{next(iter(change))}" in _refusal(tmp_path, training=[case])


def test_cases_with_different_channel_counts_are_refused_when_it_matters(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"found 1 in a \(training\); 2 in u \(unlabeled\)"):
        _load(tmp_path).channels()


def test_paths_stay_below_the_root_and_name_their_case(tmp_path: Path) -> None:
    manifest = _load(tmp_path, training=[{"id": "evil", "image": "../x.nii", "label": "ok.nii"}])
    case = manifest.training[0]
    with pytest.raises(ManifestError, match=r"case evil: .*leaves the data root"):
        resolve_image(tmp_path, case)
    assert resolve_label(tmp_path, case) == tmp_path / "ok.nii"


@pytest.mark.parametrize(
    "content", ["", "[1, 2]", "{", "\xff\xfe", "[" * 100_000, "9" * 5000, '{"training": [], "training": []}']
)
def test_files_that_are_no_manifest_are_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "m.json").write_text(content, encoding="latin-1")
    with pytest.raises(ManifestError, match=r"m\.json"):
        load_manifest(tmp_path / "m.json")


def test_a_missing_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="medssl import"):
        load_manifest(tmp_path / "none.json")


def test_a_case_without_patient_is_its_own_group(tmp_path: Path) -> None:
    manifest = _load(tmp_path)
    assert [case.group for _, case in manifest.cases()] == ["p", "u"]
