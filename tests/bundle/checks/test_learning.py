import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from medssl.bundle.checks.learning import evaluation, interruption, training
from medssl.bundle.checks.running import bare_network
from medssl.bundle.checks.subject import Subject
from medssl.core.quiet import quiet
from medssl.methods.umct import UmctStep


def found(check: Any, bundle: Path) -> list[str]:
    with quiet():
        return [each.text for each in check(Subject(bundle))]


def test_sound_bundle_trains_resumes_and_counts(runnable: Path) -> None:
    assert [found(check, runnable) for check in (training, interruption, evaluation)] == [[], [], []]


def test_rate_of_zero_leaves_the_weights_as_they_were(runnable: Path, edit: Any) -> None:
    edit("train", {"learning_rate": 0.0, "finetune": True})
    assert any("left every weight as it was" in text for text in found(training, runnable))


def test_step_without_the_guard_is_seen(runnable: Path, edit: Any) -> None:
    edit("train", {"train#optimization#max_non_finite": 1000})
    assert any("ended as if nothing were wrong" in text for text in found(training, runnable))


def test_run_without_a_resume_handler_is_seen(runnable: Path, edit: Any) -> None:
    edit("train", {"train#handlers#4": None})
    assert any("SIGTERM did not end the run" in text for text in found(interruption, runnable))


def test_state_that_is_not_saved_is_seen(runnable: Path, edit: Any) -> None:
    edit("train", {"train#handlers#4#parts#optimizer": None})
    assert any("tensors differ" in text for text in found(interruption, runnable))


@pytest.fixture
def cotrained(bundles: Path, tmp_path: Path) -> Path:
    """The co-trained bundle with small networks and patches of 16 voxels."""
    folder = tmp_path / "hippocampus_mri_umct"
    shutil.copytree(bundles / folder.name, folder, ignore=shutil.ignore_patterns("*.pt"))
    for name in ("train", "inference", "metadata"):
        path = folder / "configs" / f"{name}.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        if name == "metadata":
            for side, key in (("inputs", "image"), ("outputs", "pred")):
                content["network_data_format"][side][key]["spatial_shape"] = [16, 16, 16]
        else:
            content["patch_size"] = [16, 16, 16]
            content["network_def"]["network"] |= {"init_filters": 4, "blocks_down": [1, 1], "blocks_up": [1]}
        path.write_text(json.dumps(content), encoding="utf-8")
    (folder / "models").mkdir(exist_ok=True)
    torch.save(bare_network(folder).state_dict(), folder / "models" / "model.pt")
    return folder


def test_a_cotrained_bundle_is_stopped_in_its_second_stage(cotrained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    whole_step, kill = UmctStep.__call__, os.kill

    def step(self, engine, batch):
        output = whole_step(self, engine, batch)
        seen.append("both" if "cotraining_loss" in output["log"] else "labels")
        return output

    monkeypatch.setattr(UmctStep, "__call__", step)
    monkeypatch.setattr(os, "kill", lambda *order: (seen.append("stop"), kill(*order)))
    assert found(interruption, cotrained) == []
    assert seen == ["labels"] * 2 + ["both"] * 2 + ["labels"] * 2 + ["stop"] + ["both"] * 2


def test_evaluation_without_a_table_is_seen(runnable: Path) -> None:
    path = runnable / "configs" / "evaluate.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["validate#handlers"].pop()
    path.write_text(json.dumps(content), encoding="utf-8")
    assert any("no table of metrics" in text for text in found(evaluation, runnable))
