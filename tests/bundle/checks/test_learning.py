import json
from pathlib import Path
from typing import Any

from medssl.bundle.checks.learning import evaluation, interruption, training
from medssl.bundle.checks.subject import Subject
from medssl.core.quiet import quiet


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


def test_evaluation_without_a_table_is_seen(runnable: Path) -> None:
    path = runnable / "configs" / "evaluate.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["validate#handlers"].pop()
    path.write_text(json.dumps(content), encoding="utf-8")
    assert any("no table of metrics" in text for text in found(evaluation, runnable))
