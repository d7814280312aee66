"""A run in folds: patients stay whole, held-out cases are predicted by who never saw them, networks are joined."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from phantoms import write_phantoms

from medssl.bundle import finetune, folds
from medssl.bundle.folds import train_folds
from medssl.bundle.predictor import load_predictor
from medssl.bundle.run import copy_bundle
from medssl.core.errors import ConfigError
from medssl.core.files import sha256_file, write_json
from medssl.data.manifest import load_manifest, save_manifest
from medssl.data.splits import assign_folds
from medssl.evaluation import evaluate_segmentations
from medssl.training.encoder_weights import case_hash

_QUICK = {"epochs": 1, "iterations_per_epoch": 1, "amp": False, "num_workers": 0, "val_interval": 1}
_QUICK |= {"patch_size": [16, 16, 16]}


def _manifest(folder: Path, count: int = 2) -> Path:
    path = write_phantoms(folder, training=3, validation=0)
    save_manifest(path, assign_folds(load_manifest(path), folds=count, seed=0))
    return path


@pytest.fixture(scope="module")
def run(tmp_path_factory, bundles: Path) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("folds")
    manifest = _manifest(root / "data")
    train_folds(bundles / "hippocampus_mri_supervised", manifest=manifest, out=root / "run", overrides=_QUICK)
    return root, manifest


def test_each_case_is_predicted_by_the_network_that_never_saw_it(run) -> None:
    root, manifest = run
    for fold in (0, 1):
        content = json.loads((root / "run" / "cross_validation" / f"fold_{fold}" / "run.json").read_text())
        held_out = {case.id for case in load_manifest(manifest).training if case.fold == fold}
        assert {case["id"] for case in content["cases"]} == held_out  # cases stand there in the order they ended
        settings = json.loads((root / "run" / "folds" / f"fold_{fold}" / "results" / "resolved.json").read_text())
        assert (settings["fold"], settings["select_best"]) == (fold, False)
        weights = root / "run" / "folds" / f"fold_{fold}" / "models" / "model.pt"
        assert content["bundle"]["weights_sha256"] == sha256_file(weights)


def test_all_held_out_cases_are_scored_together(run) -> None:
    root, manifest = run
    named = {"labels": {"0": "background", "1": "anterior", "2": "posterior"}}
    content = load_manifest(manifest).model_copy(update=named)
    evaluation = evaluate_segmentations(
        content, root=manifest.parent, predictions=root / "run" / "cross_validation", part="training"
    )
    assert len(evaluation.scored) == 3
    assert not [finding for finding in evaluation.findings if finding.severity != "info"]


def test_the_ensemble_is_the_mean_of_the_networks(run) -> None:
    root, _ = run
    with load_predictor(root / "run" / "ensemble", device="cpu") as predictor:
        assert predictor.classes == 3
    state = torch.load(root / "run" / "ensemble" / "models" / "model.pt", weights_only=True)
    member = torch.load(root / "run" / "folds" / "fold_1" / "models" / "model.pt", weights_only=True)
    assert all(torch.equal(state[f"networks.1.{name}"], tensor) for name, tensor in member.items())


def test_a_second_run_trains_nothing_again(run, bundles: Path) -> None:
    root, manifest = run
    weights = root / "run" / "folds" / "fold_0" / "models" / "model.pt"
    before = weights.read_bytes()
    train_folds(bundles / "hippocampus_mri_supervised", manifest=manifest, out=root / "run", overrides=_QUICK)
    assert weights.read_bytes() == before


def test_cases_without_fold_and_torn_patients_are_refused(tmp_path: Path, bundles: Path, monkeypatch) -> None:
    monkeypatch.setattr(folds, "train", None)  # nothing may be trained
    path = write_phantoms(tmp_path, training=2, validation=0)
    source = bundles / "hippocampus_mri_supervised"
    with pytest.raises(ConfigError, match="expected a fold in every training case"):
        train_folds(source, manifest=path, out=tmp_path / "run")
    content = load_manifest(path)
    torn = [case.model_copy(update={"fold": fold, "patient": "p"}) for fold, case in enumerate(content.training)]
    save_manifest(path, content.model_copy(update={"training": tuple(torn)}))
    with pytest.raises(ConfigError, match="found 1 patients in several"):
        train_folds(source, manifest=path, out=tmp_path / "run")


@pytest.fixture
def untrained(tmp_path: Path, bundles: Path, monkeypatch) -> tuple[Path, Path, dict[int, str]]:
    """Return a bundle whose weights say that they saw fold 1, its manifest, and what each fold starts from."""
    starts: dict[int, str] = {}

    def stop(bundle, *, overrides, **_):
        starts[overrides["fold"]] = overrides.get("finetune_model_path")
        raise KeyboardInterrupt

    monkeypatch.setattr(folds, "train", stop)
    manifest = _manifest(tmp_path / "data")
    seen = [case for case in load_manifest(manifest).training if case.fold == 1]
    encoder = tmp_path / "fold_0" / "models" / "encoder.pt"
    encoder.parent.mkdir(parents=True)
    encoder.write_bytes(b"weights")
    stage = {"stage": "pretrain", "cases": [case_hash(case.id, case.image) for case in seen]}
    write_json(encoder.with_suffix(".json"), {"sha256": sha256_file(encoder), "stages": [stage]})
    copy_bundle(bundles / "hippocampus_mri_supervised", tmp_path / "bundle")
    for file in encoder.parent.iterdir():
        shutil.copy(file, tmp_path / "bundle" / "models")
    return tmp_path / "bundle", manifest, starts


def test_folds_do_not_share_pseudo_labels(bundles: Path, tmp_path: Path) -> None:
    manifest, files = _manifest(tmp_path / "data"), ("train", "train_self_training")
    source, common = bundles / "hippocampus_mri_umct", {"manifest": manifest, "config_files": files}
    with pytest.raises(ConfigError, match="the same for all"):
        train_folds(source, out=tmp_path / "run", overrides={"predictions_dir": "predictions"}, **common)
    assert not (tmp_path / "run").exists()
    content = json.loads(manifest.read_text())
    content["unlabeled"] = [{"id": "u", "image": content["training"][0]["image"]}]
    manifest.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"predictions_0: expected a label map of every unlabelled case"):
        train_folds(source, out=tmp_path / "run", overrides={"predictions_dir": "predictions_{fold}"}, **common)


def test_an_encoder_that_saw_images_of_a_scored_fold_is_warned_of(untrained, tmp_path: Path, caplog) -> None:
    bundle, manifest, _ = untrained
    with pytest.raises(KeyboardInterrupt):
        train_folds(bundle, manifest=manifest, out=tmp_path / "run")
    assert "folds 1: transductive: the encoder saw the images, not the labels, of the scored folds" in caplog.text
    caplog.clear()
    with pytest.raises(KeyboardInterrupt):
        train_folds(bundle, manifest=manifest, out=tmp_path / "run", overrides={"finetune": False})
    assert "transductive" not in caplog.text


def test_each_fold_can_start_from_an_encoder_that_never_saw_it(untrained, tmp_path: Path, caplog) -> None:
    bundle, manifest, starts = untrained
    path = str(tmp_path / "fold_{fold}" / "models" / "encoder.pt")
    with pytest.raises(KeyboardInterrupt):
        train_folds(bundle, manifest=manifest, out=tmp_path / "run", overrides={"finetune_model_path": path})
    assert starts == {0: path.format(fold=0)}
    assert "transductive" not in caplog.text


@pytest.mark.parametrize("from_scratch", [False, True])
def test_fine_tuning_in_folds_says_what_its_pre_training_saw(
    untrained, tmp_path: Path, monkeypatch, from_scratch
) -> None:
    bundle, manifest, _ = untrained
    for step in ("_train", "_evaluate", "copy_bundle"):
        monkeypatch.setattr(finetune, step, lambda *_, **__: None)
    request = finetune.Request(
        bundle=bundle,
        manifest=manifest,
        data_root=tmp_path,
        out=tmp_path / "new",
        folds=2,
        overrides={},
        from_scratch=from_scratch,
    )
    task = SimpleNamespace(request=request, predict=lambda *_: None)
    _, meaning = finetune._cross_validated(task, load_manifest(manifest))
    assert meaning.startswith("a 2-fold cross-validation")
    assert ("transductive" in meaning) is not from_scratch
