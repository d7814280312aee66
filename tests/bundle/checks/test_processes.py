"""B23 on a sound bundle and on bundles whose multi-GPU files are wrong in one way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from bundle.process_bundles import flow_finished
from processes import in_processes

from medssl.bundle.checks import processes as checked
from medssl.bundle.checks.processes import processes
from medssl.bundle.checks.running import bare_network
from medssl.bundle.checks.subject import Subject
from medssl.core.quiet import quiet


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the processes without torchrun and its imports, which one test is enough for."""

    def launch(bundle: Path, files: tuple[str, ...], overrides: dict[str, Any], *, count: int) -> str | None:
        try:
            in_processes(flow_finished, bundle, files, overrides, count=count)
        except Exception as error:
            return repr(error)
        return None

    monkeypatch.setattr(checked, "_torchrun", launch)


def found(bundle: Path) -> list[str]:
    with quiet():
        return [f"{each.where}: {each.text}" for each in processes(Subject(bundle))]


def _without(bundle: Path, *names: str) -> None:
    for name in names:
        (bundle / "configs" / f"{name}.json").unlink()


def test_sound_bundle_trains_and_evaluates_alike_on_several_processes(runnable: Path, forked: None) -> None:
    assert found(runnable) == []


def test_stock_monai_under_torchrun_trains_alike(runnable: Path) -> None:
    _without(runnable, "multi_gpu_evaluate")
    assert found(runnable) == []


def test_batch_normalisation_is_not_taken_for_an_error(runnable: Path, edit: Any, forked: None) -> None:
    _without(runnable, "multi_gpu_evaluate")
    for name in ("train", "inference"):
        edit(name, {"network_def#norm": ["batch", {"affine": True}]})
    torch.save(bare_network(runnable).state_dict(), runnable / "models" / "model.pt")
    (only,) = processes(Subject(runnable))
    assert only.severity == "warning"
    assert "samples of its own process" in only.text


def test_loss_that_joins_the_samples_of_a_batch_is_seen(runnable: Path, edit: Any, forked: None) -> None:
    _without(runnable, "multi_gpu_evaluate")
    edit("train", {"train#loss#batch": True})
    texts = found(runnable)
    assert len(texts) == 2
    assert "of their norm from those of one" in texts[0]
    assert "expected the losses of one process" in texts[1]


def test_sampler_that_refuses_an_idle_process_is_seen(runnable: Path, edit: Any, forked: None) -> None:
    _without(runnable, "multi_gpu_train")
    sampler = {"_target_": "DistributedSampler", "dataset": "@validate#dataset", "even_divisible": False}
    _replace(runnable, "multi_gpu_evaluate", "validate#sampler", sampler)
    (text,) = found(runnable)
    assert "did not evaluate two cases" in text


def test_table_with_a_repeated_case_is_seen(runnable: Path, forked: None) -> None:
    _without(runnable, "multi_gpu_train")
    _replace(runnable, "multi_gpu_evaluate", "validate#key_metric#val_mean_dice", None)
    assert any("val_mean_dice_raw.csv: expected the table of one process" in text for text in found(runnable))


def test_processes_that_wait_for_ever_are_ended(runnable: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _without(runnable, "multi_gpu_train")
    monkeypatch.setattr(checked, "_SECONDS", 0.5)
    (text,) = found(runnable)
    assert "no end within" in text


def _replace(bundle: Path, name: str, item_id: str, value: Any) -> None:
    path = bundle / "configs" / f"{name}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content.pop(item_id)
    path.write_text(json.dumps(content if value is None else content | {item_id: value}), encoding="utf-8")
