"""What hangs is given up, and what dies takes nothing with it."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest
from faults import hospital
from faults.hospital import make_hospital
from faults.worker_functions import die_on_two, examine_or_sleep, score_or_die, sleep_on_two

from medssl.core import exit_codes
from medssl.core.errors import ResourceError
from medssl.data import checks
from medssl.data.workers import map_isolated
from medssl.evaluation import segmentation
from medssl.inference import batch


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Path:
    sound = tmp_path_factory.getbasetemp() / "sound_for_hangs"
    if not sound.exists():
        make_hospital(sound)
    return Path(shutil.copytree(sound, tmp_path / "hospital"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("workers", "seconds"), [(0, 0.3), (2, 1.0)])
def test_an_item_that_hangs_is_given_up_and_the_others_are_not(workers: int, seconds: float) -> None:
    outcomes = map_isolated(sleep_on_two, [0, 1, 2, 3], workers=workers, stall_seconds=seconds)
    assert [outcome for outcome in outcomes if isinstance(outcome, int)] == [0, 1, 3]
    assert isinstance(outcomes[2], ResourceError)
    assert outcomes[2].code == "stalled"


@pytest.mark.timeout(60)
def test_an_early_death_is_no_stall() -> None:
    outcomes = map_isolated(die_on_two, [1, 2], workers=1, stall_seconds=60)
    assert (outcomes[0], outcomes[1].code) == (1, "worker-died")


@pytest.mark.timeout(60)
def test_check_names_the_case_that_hangs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "examine_case", examine_or_sleep)
    monkeypatch.setattr(checks.map_isolated, "__kwdefaults__", {"threads": 1, "stall_seconds": 0.5})
    outcome = hospital.check(folder)
    assert (outcome.exit_code, outcome.codes) == (exit_codes.SOME_FAILED, ("stalled",))
    assert "[v1]" in outcome.text


@pytest.mark.timeout(60)
def test_infer_names_the_case_that_hangs(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = batch._input_hash
    monkeypatch.setattr(batch, "_input_hash", lambda case: time.sleep(50) if case.id == "v2" else whole(case))
    outcome = hospital.infer(folder, "--time-limit", "1")
    assert (outcome.exit_code, outcome.codes) == (exit_codes.SOME_FAILED, ("stalled",))
    record = json.loads((folder / "predictions" / "run.json").read_text(encoding="utf-8"))
    states = {case["id"]: case["state"] for case in record["cases"]}
    assert states == {"t4": "skipped", "v2": "failed"}


@pytest.mark.timeout(90)
def test_a_scoring_process_that_dies_costs_its_case_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segmentation, "score_case", score_or_die)
    monkeypatch.setattr(segmentation, "_choose_workers", lambda _: 2)
    outcome = hospital.evaluate(folder)
    assert (outcome.exit_code, outcome.codes) == (exit_codes.SOME_FAILED, ("worker-died",))
    assert "1 of 2 cases scored" in outcome.text
