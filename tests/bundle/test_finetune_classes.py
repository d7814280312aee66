"""From unlabelled slices to a verified bundle with scores, by the commands in the order of a user."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from inference.slice_bundle import NAMES, small_slice_bundle, write_images
from methods.slice_contrast.small_slices import write_volumes

from medssl.cli.main import run
from medssl.data.manifest import load_manifest, save_manifest

SHORT = {"num_workers": 0, "device": "cpu", "batch_size": 4}
HEAD = {"epochs": 1, "iterations_per_epoch": 2, "hidden": 8, "dimensions": 4}
SWAV = {**SHORT, **HEAD, "crop_size": [8, 8], "prototypes": 4}
MOCO = {**SHORT, **HEAD, "key_encoder#size": "tiny"}
FINETUNE = {**SHORT, "epochs": 2, "frozen_epochs": 1, "learning_rate": 0.01}


def _set(values: dict[str, object]) -> list[str]:
    return [word for key, value in values.items() for word in ("--set", f"{key}={json.dumps(value)}")]


def _pretrain(folder: Path, out: Path, values: dict[str, object], *more: str) -> Path:
    bundle = small_slice_bundle(folder / "small_ct_slices", weights=False)
    manifest, reduced = write_volumes(folder / "ct"), folder / "ct" / "reduced.json"
    assert run(["reduce", str(manifest), "--out", str(reduced), "--method", "every_n", "--every", "2"]) == 0
    command = ["pretrain", str(bundle), "--manifest", str(reduced), "--out", str(out), *more]
    assert run([*command, *_set(values)]) == 0
    return out


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slices")
    return _pretrain(folder, folder / "pretrained_ct_slices", SWAV)


@pytest.fixture(scope="module")
def finetuned(pretrained: Path) -> Path:
    manifest, out = write_images(pretrained.parent / "images"), pretrained.parent / "my_ct_slices"
    command = ["finetune", str(pretrained), "--manifest", str(manifest), "--out", str(out)]
    assert run([*command, *_set(FINETUNE)]) == 0
    return out


def test_the_encoder_says_what_made_it(pretrained: Path) -> None:
    content = json.loads((pretrained / "models" / "encoder.json").read_text())
    assert content["architecture"] == "SliceNet"
    assert content["stages"][0]["method"] == "swav"
    log = (pretrained / "results" / "pretrain" / "train_log.jsonl").read_text()
    assert '"prototypes_used"' in log


def test_moco_runs_as_a_stage_of_its_own(tmp_path: Path) -> None:
    out = _pretrain(tmp_path, tmp_path / "moco_ct_slices", MOCO, "--stage", "moco")
    assert json.loads((out / "models" / "encoder.json").read_text())["stages"][0]["method"] == "moco"


def test_the_new_bundle_starts_from_the_encoder_and_verifies(finetuned: Path) -> None:
    report = json.loads((finetuned / "results" / "weights.json").read_text())
    assert (len(report["loaded"]), report["missing"]) == (108, ["fc.weight", "fc.bias"])
    assert run(["bundle", "verify", str(finetuned)]) == 0
    metadata = json.loads((finetuned / "configs" / "metadata.json").read_text())
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == dict(zip("01", NAMES, strict=True))


def test_held_out_scores_are_kept_without_patients(finetuned: Path) -> None:
    metrics = json.loads((finetuned / "results" / "metrics.json").read_text())
    assert metrics["task"] == "classification"
    assert metrics["counts"]["scored"] == 4
    assert "patient 4" not in (finetuned / "results" / "manifest.json").read_text()


def test_test_images_are_classified_and_scored(finetuned: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    manifest = finetuned.parent / "images" / "manifest.json"
    assert run(["infer", str(finetuned), str(manifest), "--part", "test", "--out", str(tmp_path)]) == 0
    assert run(["evaluate", str(tmp_path), "--manifest", str(manifest), "--task", "classification"]) == 0
    assert "4 of 4 cases scored" in capsys.readouterr().out
    assert json.loads((tmp_path / "metrics.json").read_text())["summary"]["auc"]["value"] is not None


def test_options_of_label_maps_are_refused(finetuned: Path, tmp_path: Path) -> None:
    images = str(finetuned.parent / "images")
    assert run(["infer", str(finetuned), images, "--out", str(tmp_path / "a"), "--probabilities"]) == 1
    command = ["finetune", str(finetuned), "--manifest", f"{images}/manifest.json", "--out", str(tmp_path / "b_c")]
    assert run([*command, "--norm", "instance"]) == 1


def test_every_fold_is_scored_by_a_network_that_never_saw_it(pretrained: Path, tmp_path: Path) -> None:
    manifest, out = write_images(tmp_path / "images", validation=0, test=0), tmp_path / "my_ct_folds"
    command = ["finetune", str(pretrained), "--manifest", str(manifest), "--out", str(out), "--folds", "2"]
    # The last network is trained on all images, so the validation that falls due has none
    assert run([*command, *_set({**FINETUNE, "epochs": 1, "val_interval": 1})]) == 0
    metrics = json.loads((out / "results" / "metrics.json").read_text())
    assert metrics["counts"]["scored"] == 8
    assert {case["fold"] for case in metrics["cases"]} == {0, 1}


def test_a_single_class_cannot_be_learnt(pretrained: Path, tmp_path: Path) -> None:
    path = write_images(tmp_path / "images")
    manifest = load_manifest(path)
    ones = tuple(case.model_copy(update={"class_": NAMES[0]}) for case in manifest.training)
    one = manifest.model_copy(update={"labels": {"0": NAMES[0]}, "training": ones, "validation": (), "test": ()})
    save_manifest(path, one)
    assert run(["finetune", str(pretrained), "--manifest", str(path), "--out", str(tmp_path / "b_c")]) == 1
