"""Lists of cases for a configuration, and augmentation keyed by the position in the stream."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from faults.small_dataset import label, save
from monai.transforms import Compose, EnsureChannelFirstd, LoadImaged, MapLabelValued, RandGaussianNoised, Transform
from phantoms import write_phantoms

from medssl.core.errors import ConfigError, ImageError
from medssl.data.datasets import (
    SampleKey,
    SeededCacheDataset,
    cases_with_lesion,
    for_pseudo_labels,
    image_cases,
    labelled_cases,
    pseudo_labelled_cases,
    training_cases,
    unlabeled_cases,
    validation_cases,
)
from medssl.data.manifest import Case, Manifest, save_manifest


def _case(case_id: str, **fields: object) -> Case:
    return Case(id=case_id, image=(f"{case_id}.nii.gz",), label=f"{case_id}_label.nii.gz", **fields)


@pytest.fixture
def manifest(tmp_path: Path) -> str:
    content = Manifest(
        name="small",
        modality="MR",
        labels={"0": "background", "1": "organ"},
        training=(_case("a", fold=0), _case("b", fold=1), _case("c", fold=1)),
        validation=(_case("v"),),
        unlabeled=(_case("u"),),
    )
    save_manifest(tmp_path / "m.json", content)
    return str(tmp_path / "m.json")


def _ids(cases: list[dict]) -> list[str]:
    return [case["case_id"] for case in cases]


def test_a_fold_is_held_out_of_training_and_is_the_validation(manifest: str) -> None:
    assert _ids(training_cases(manifest=manifest, fold=1)) == ["a"]
    assert _ids(validation_cases(manifest=manifest, fold=1)) == ["b", "c"]


def test_without_a_fold_the_validation_part_is_used(manifest: str) -> None:
    assert _ids(training_cases(manifest=manifest)) == ["a", "b", "c"]
    assert _ids(validation_cases(manifest=manifest)) == ["v"]


def test_unlabelled_cases_never_show_a_label(manifest: str) -> None:
    assert unlabeled_cases(manifest=manifest) == [{"image": str(Path(manifest).parent / "u.nii.gz"), "case_id": "u"}]


def test_unlabelled_cases_that_are_required_are_missed(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.json"
    save_manifest(manifest, Manifest(name="none", modality="MR", labels={"0": "background", "1": "a"}))
    assert unlabeled_cases(manifest=str(manifest)) == []
    with pytest.raises(ConfigError, match=r"manifest\.json: no unlabelled case to learn from"):
        unlabeled_cases(manifest=str(manifest), required=True)


def test_paths_start_from_the_data_root(manifest: str, tmp_path: Path) -> None:
    cases = training_cases(manifest=manifest, data_root=str(tmp_path / "data"))
    assert cases[0]["label"] == str(tmp_path / "data" / "a_label.nii.gz")


def test_an_empty_fold_is_refused(manifest: str) -> None:
    with pytest.raises(ConfigError, match=r"no training case is in fold 7; the folds are \[0, 1\]"):
        validation_cases(manifest=manifest, fold=7)


def test_a_training_case_without_label_is_refused(tmp_path: Path) -> None:
    bare = Case(id="x", image=("x.nii",))
    save_manifest(tmp_path / "m.json", Manifest(name="n", modality="MR", labels={"0": "bg"}, training=(bare,)))
    with pytest.raises(ConfigError, match="without a label: x"):
        training_cases(manifest=str(tmp_path / "m.json"))


class _KeepsWhatItReads(Transform):
    """As MONAI's readers do: what is read in one call is taken from the reader in the next."""

    def __call__(self, item: dict) -> dict:
        self.current = item["value"]
        time.sleep(0.002)
        return {**item, "found": self.current}


def test_threads_that_fill_the_cache_do_not_share_readers() -> None:
    data = [{"value": number} for number in range(32)]
    dataset = SeededCacheDataset(data, Compose([_KeepsWhatItReads()]), num_workers=8)
    assert [dataset[number]["found"] for number in range(32)] == list(range(32))


def test_images_of_several_files_keep_all_of_them_in_a_cache_filled_by_threads(tmp_path: Path) -> None:
    manifest = write_phantoms(tmp_path, training=24, validation=0, channels=3, shape=(24, 24, 22))
    transform = Compose([LoadImaged(["image", "label"]), EnsureChannelFirstd(["image", "label"])])
    dataset = SeededCacheDataset(training_cases(manifest=str(manifest)), transform, num_workers=8)
    assert {tuple(dataset[number]["image"].shape) for number in range(24)} == {(3, 24, 24, 22)}


def _noisy(seed: int = 0, stream: str = "labeled") -> SeededCacheDataset:
    data = [{"image": torch.zeros(1, 2, 2)} for _ in range(3)]
    return SeededCacheDataset(
        data, Compose([RandGaussianNoised("image", prob=1.0)]), seed=seed, stream=stream, num_workers=0
    )


def test_augmentation_depends_on_the_position_and_not_on_what_was_drawn_before() -> None:
    dataset = _noisy()
    first = dataset[SampleKey(0, 5)]["image"]
    dataset[SampleKey(1, 6)]
    assert torch.equal(dataset[SampleKey(0, 5)]["image"], first)
    assert not torch.equal(dataset[SampleKey(0, 6)]["image"], first)


def test_streams_and_seeds_draw_differently() -> None:
    base = _noisy()[SampleKey(0, 5)]["image"]
    assert not torch.equal(_noisy(seed=1)[SampleKey(0, 5)]["image"], base)
    assert not torch.equal(_noisy(stream="unlabeled")[SampleKey(0, 5)]["image"], base)


def test_an_unreadable_image_is_reported_with_its_case(tmp_path: Path) -> None:
    (tmp_path / "broken.nii.gz").write_bytes(b"no image")
    data = [{"image": str(tmp_path / "broken.nii.gz"), "case_id": "case7"}]
    with pytest.raises(ImageError, match="case case7"):
        SeededCacheDataset(data, Compose([LoadImaged("image")]), num_workers=0)


@pytest.mark.parametrize("cache_rate", [0.0, 1.0])
def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path, cache_rate: float) -> None:
    os.mkfifo(tmp_path / "pipe.nii.gz")
    data = [{"image": [str(tmp_path / "pipe.nii.gz")], "case_id": "case7"}]
    with pytest.raises(ImageError, match=r"case case7.*pipe") as error:
        SeededCacheDataset(data, Compose([LoadImaged("image")]), num_workers=0, cache_rate=cache_rate)[SampleKey(0, 0)]
    assert error.value.code == "file-kind"


def test_images_and_labelled_cases_are_listed_by_part(manifest: str) -> None:
    images = image_cases(manifest=manifest, parts=["unlabeled", "training"])
    assert sorted(_ids(images)) == ["a", "b", "c", "u"]
    assert all("label" not in case for case in images)
    assert _ids(labelled_cases(manifest=manifest, parts=["validation"])) == ["v"]


def test_images_of_a_fold_to_score_and_other_exams_of_its_patients_are_left_out(tmp_path: Path) -> None:
    content = Manifest(
        name="small",
        modality="MR",
        labels={"0": "background", "1": "organ"},
        training=(_case("a", fold=0, patient="p"), _case("b", fold=1, patient="q")),
        unlabeled=(_case("u", patient="p"), _case("w")),
    )
    save_manifest(tmp_path / "m.json", content)
    assert _ids(image_cases(manifest=str(tmp_path / "m.json"), exclude_fold=0)) == ["b", "w"]
    assert len(image_cases(manifest=str(tmp_path / "m.json"))) == 4
    with pytest.raises(ConfigError, match="no training case is in fold 7; the folds are"):
        image_cases(manifest=str(tmp_path / "m.json"), exclude_fold=7)


def test_predictions_become_labels_of_unlabelled_cases(manifest: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found none of u"):
        pseudo_labelled_cases(manifest=manifest, predictions=str(tmp_path))
    (tmp_path / "u.nii.gz").touch()
    (case,) = pseudo_labelled_cases(manifest=manifest, predictions=str(tmp_path))
    assert case["label"] == str(tmp_path / "u.nii.gz")


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ('{"labels": {"0": "organ", "1": "background"}}', "expected predictions of background, organ"),
        ('{"labels": {"0": "background", "1": "organ", "2": "tumour"}}', "found background, organ, tumour"),
        ('{"cases": []}', "expected the record of medssl infer"),
    ],
)
def test_predictions_of_other_classes_are_no_pseudo_labels(
    manifest: str, tmp_path: Path, record: str, told: str
) -> None:
    (tmp_path / "u.nii.gz").touch()
    for name in ("Organ", "a name that the bundle kept"):
        (tmp_path / "run.json").write_text(json.dumps({"labels": {"1": name, "0": "background"}}))
        assert len(pseudo_labelled_cases(manifest=manifest, predictions=str(tmp_path))) == 1
    (tmp_path / "run.json").write_text(record)
    with pytest.raises(ConfigError, match=told):
        pseudo_labelled_cases(manifest=manifest, predictions=str(tmp_path))


def test_a_map_that_a_network_made_is_not_mapped_to_channels_again(tmp_path: Path) -> None:
    path = save(tmp_path / "a.nii.gz", np.arange(3, dtype=np.uint8).repeat(9).reshape(3, 3, 3))
    mapping = MapLabelValued(keys="label", orig_labels=[0, 2, 5], target_labels=[0, 1, 2])
    of_labels = Compose([LoadImaged(keys="label"), EnsureChannelFirstd(keys="label"), mapping])
    seen = for_pseudo_labels(preprocessing=of_labels)({"label": str(path)})["label"]
    assert seen.unique().tolist() == [0, 1, 2]
    assert of_labels({"label": str(path)})["label"].unique().tolist() != [0, 1, 2]


def test_labels_say_which_cases_have_a_lesion(tmp_path: Path) -> None:
    paths = [save(tmp_path / "a.nii.gz", label()), save(tmp_path / "b.nii.gz", np.zeros((4, 4, 4), np.uint8))]
    assert cases_with_lesion([{"label": str(path)} for path in paths]) == [True, False]
    assert cases_with_lesion([]) == []


def test_a_label_that_cannot_be_read_names_its_case(tmp_path: Path) -> None:
    (tmp_path / "a.nii.gz").write_bytes(b"nonsense")
    with pytest.raises(ImageError, match="case x: expected a readable label"):
        cases_with_lesion([{"label": str(tmp_path / "a.nii.gz"), "case_id": "x"}])
