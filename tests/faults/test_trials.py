"""Every fault against every command: named or refused, no foreign code run, nothing lost, no hang."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
from faults.broken_files import ordinary_user
from faults.hospital import Outcome, make_hospital
from faults.trials import Trial, all_trials, markers

from medssl.reports import cases

TRIALS = all_trials()


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_hospital(tmp_path_factory.mktemp("hospital") / "sound")


@pytest.fixture(autouse=True)
def _no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the drawing of sound cases, which costs half of this file's time; tests/reports has it."""
    monkeypatch.setattr(cases, "draw_comparison", lambda *_, **__: "data:,")


def _try(trial: Trial, folder: Path) -> Outcome:
    trial.plant(folder)
    try:
        with ordinary_user(folder) if trial.needs_an_ordinary_user else nullcontext():
            return trial.act(folder)
    except PermissionError:
        pytest.skip("cannot give up root's rights here")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("trial", TRIALS, ids=lambda trial: f"{trial.fault}-{trial.command}")
def test_a_fault_is_named_and_nothing_is_lost(trial: Trial, hospital: Path, tmp_path: Path) -> None:
    folder = tmp_path / "hospital"
    shutil.copytree(hospital, folder)
    outcome = _try(trial, folder)
    assert outcome.exit_code in trial.allowed, outcome.text
    assert outcome.codes or trial.silent, outcome.text
    assert not {"unexpected", "refused: MedsslError error"} & set(outcome.codes)
    assert markers(folder) == []
    assert not list(folder.rglob(".tmp-*"))
    assert all((folder / name).is_file() for name in trial.survives)


def test_every_reader_meets_every_broken_image() -> None:
    readers = {"check", "check (label)", "train", "train loader", "infer", "evaluate", "report"}
    met = {(trial.fault, trial.command) for trial in TRIALS}
    assert {(fault, reader) for fault in {f for f, c in met if c == "train loader"} for reader in readers} <= met
    assert sum(command == "train loader" for _, command in met) >= 12
