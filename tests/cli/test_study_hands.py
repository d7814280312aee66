"""What a study hands to training: the bundle beside the plan, one length and seed, and the last checkpoint."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from cli.test_study import tiny_bundle
from phantoms import write_phantoms

from medssl.cli import study_hands
from medssl.data.manifest import load_manifest
from medssl.studies.plan import StudyPlan


def test_every_run_has_the_length_of_the_plan_and_no_choice_of_a_checkpoint(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_phantoms(tmp_path / "data", training=2, validation=1)
    own = tiny_bundle(bundles, tmp_path)
    arm = {"name": "views", "bundle": own.name, "patches_per_iteration": 6, "set": {"learning_rate": 0.5}}
    first = load_manifest(manifest).training[0].id
    plan = StudyPlan.model_validate(
        {"name": "p", "part": "validation", "draws": {"1": [[first]]}, "budget": 300, "baseline": "views"}
        | {"arms": [arm], "iterations_per_epoch": 10}
    )
    seen: dict[str, Any] = {}
    monkeypatch.setattr(study_hands, "train", lambda bundle, **options: seen.update(options, bundle=bundle))
    monkeypatch.setattr(study_hands._Work, "_score", lambda *_: {"scored": True})
    hands = study_hands.study_hands(
        plan, load_manifest(manifest), root=manifest.parent, plan_folder=tmp_path, trust=True
    )
    assert hands.execute(next(iter(plan.runs())), manifest, tmp_path / "run") == {"scored": True}
    assert (seen["bundle"], seen["out"], seen["trust"]) == (own, tmp_path / "run" / "bundle", True)
    expected = {"epochs": 5, "iterations_per_epoch": 10, "seed": 0, "learning_rate": 0.5, "select_best": False}
    assert seen["overrides"] == {**expected, "val_interval": 6}


def _log(folder: Path, *lines: str) -> Path:
    file = folder / "bundle" / "results" / "train_log.jsonl"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_what_a_training_took_is_summed_over_its_parts_also_a_killed_one(tmp_path: Path) -> None:
    killed = ('{"kind": "start"}', '{"kind": "train", "seconds": 5.0}', '{"kind": "train", "seconds": 9.5}', '{"ki')
    ended = ('{"kind": "start"}', '{"kind": "train", "seconds": 3.0}', '{"kind": "end", "seconds": 4.0, "patches": 7}')
    assert study_hands.spent(_log(tmp_path / "a", *killed)) == (9.5, None)
    assert study_hands.spent(_log(tmp_path / "b", *killed, *ended)) == (13.5, 7)


def test_a_training_of_an_earlier_version_or_none_has_cost_nothing_known(tmp_path: Path) -> None:
    assert study_hands.spent(tmp_path) == (0.0, None)
    assert study_hands.spent(_log(tmp_path / "old", '{"kind": "start"}', '{"kind": "end"}')) == (0.0, None)


def _thick_slices(manifest: Path) -> None:
    for path in manifest.parent.glob("*.nii.gz"):
        nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), np.diag([1.0, 1.0, 3.0, 1.0])), path)


def test_all_arms_work_on_the_cubes_that_one_of_them_needs(
    bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = write_phantoms(tmp_path / "data", training=2, validation=1)
    _thick_slices(manifest)
    dataset, own = load_manifest(manifest), tiny_bundle(bundles, tmp_path)
    arms = [{"name": "views", "bundle": own.name}, {"name": "plain", "bundle": "hippocampus_mri_supervised"}]
    plan = StudyPlan.model_validate(
        {"name": "p", "part": "validation", "draws": {"1": [[dataset.training[0].id]]}, "budget": 300}
        | {"baseline": "plain", "arms": arms}
    )
    monkeypatch.setattr(study_hands, "train", lambda *_, **__: None)
    monkeypatch.setattr(study_hands._Work, "_score", lambda *_: {})
    hands = study_hands.study_hands(plan, dataset, root=manifest.parent, plan_folder=tmp_path, trust=False)
    hands = pickle.loads(pickle.dumps(hands))  # as for the processes of --workers
    for run in plan.runs():
        hands.execute(run, manifest, tmp_path / run.arm.name)
    plans = [json.loads((tmp_path / arm / "bundle/results/plan.json").read_text()) for arm in ("views", "plain")]
    assert plans[0]["spacing_mm"] == plans[1]["spacing_mm"] == [1.442] * 3
    assert plans[0]["patch_size"] == plans[1]["patch_size"]
    assert study_hands.conditions(tmp_path / "plain") == {"spacing_mm": [1.442] * 3}


def test_a_plan_knows_what_its_bundles_say_however_it_is_written(bundles: Path, tmp_path: Path) -> None:
    own = tiny_bundle(bundles, tmp_path)
    arm = {"name": "views", "bundle": own.name}
    plan = StudyPlan.model_validate(
        {"name": "p", "part": "test", "draws": {"1": [["a"]]}, "budget": 9, "baseline": "views", "arms": [arm]}
    )
    path = own / "configs" / "train.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    found = []
    for change in ({}, {"seed": content["seed"]}, {"seed": content["seed"] + 1}):
        path.write_text(json.dumps(content | change), encoding="utf-8")
        found.append(study_hands.with_recipes(plan, tmp_path))
        path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    recipes = [each.recipes["views"] for each in found]
    assert recipes[0] == recipes[1] != recipes[2]
    assert recipes[0].pretraining is None
    assert {each.sha256() for each in found} == {plan.sha256()}
    assert next(iter(found[0].runs())).recipe == recipes[0]
