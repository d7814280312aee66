"""A study without training: scores are made by a formula, so that every number of a table is known."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from medssl.core.errors import TrainingError
from medssl.data.manifest import Case, Manifest
from medssl.studies.plan import Arm, Run, StudyPlan
from medssl.studies.run import Hands
from medssl.studies.summary import Row

TRAINING = tuple(f"t{number}" for number in range(6))
SCORED = tuple(f"v{number}" for number in range(5))


def manifest() -> Manifest:
    def case(name: str) -> Case:
        return Case(id=name, image=(f"{name}.nii.gz",), label=f"{name}_label.nii.gz")

    labels = {"0": "background", "1": "ball"}
    cases = {"training": tuple(map(case, TRAINING)), "test": tuple(map(case, SCORED))}
    return Manifest(name="small", modality="MR", labels=labels, **cases)


def content(**changes: Any) -> dict[str, Any]:
    plan = {
        "name": "small",
        "part": "test",
        "draws": {"1": [["t0"], ["t1"], ["t2"]], "2": [["t0", "t1"], ["t1", "t2"], ["t2", "t3"]]},
        "budget": 120,
        "baseline": "plain",
        "ensemble_baseline": "plain_three",
        "arms": [
            {"name": "plain", "bundle": "b", "patches_per_iteration": 2},
            {"name": "better", "bundle": "b", "patches_per_iteration": 4, "set": {"x": 1}},
            {"name": "plain_three", "members": "plain", "size": 3, "group": "ensemble"},
        ],
    }
    return plan | changes


def plan(**changes: Any) -> StudyPlan:
    return StudyPlan.model_validate(content(**changes))


def metrics(offset: float) -> dict[str, Any]:
    cases = [
        {"id": name, "mean": {"dice": offset + 0.01 * number}, "classes": {"ball": {"dice": offset + 0.01 * number}}}
        for number, name in enumerate(SCORED)
    ]
    return {"labels": {"1": "ball"}, "cases": cases, "failed": []}


class Recorder:
    """Hands that count what they are asked to do; "better" is better by 0.1, every label by 0.05."""

    def __init__(self, *, fail: str = "", error: BaseException | None = None) -> None:
        self.ran: list[str] = []
        self.fail = fail
        self.error = error or TrainingError("planted")
        self.earlier: dict[str, float] = {}  # arm -> seconds that its trainings took before
        self.started: list[str] = []  # bundles that runs of pre-trained arms start from

    @property
    def hands(self) -> Hands:
        return Hands(
            execute=self.execute,
            fuse=self.fuse,
            part=self.part,
            pretrain=self.pretrain,
            spent=self.spent,
            conditions=self.conditions,
        )

    def execute(self, run: Run, manifest: Path, folder: Path) -> dict[str, Any]:
        self.ran.append(run.key)
        if run.arm.pretrain is not None:
            self.started.append(str(run.arm.bundle))
        if run.arm.name == self.fail:
            raise self.error
        return metrics(0.5 + 0.05 * run.labelled + 0.02 * run.draw + 0.1 * (run.arm.name == "better"))

    def pretrain(self, arm: Arm, manifest: Path, folder: Path) -> None:
        self.ran.append(f"pretrain {arm.bundle}")
        folder.mkdir()

    def spent(self, folder: Path) -> tuple[float, int | None]:
        return self.earlier.get(folder.parent.name, 0.0), 100

    def conditions(self, folder: Path) -> dict[str, Any]:
        return {"spacing_mm": [1.0, 1.0, 2.0], "machine": "CPU, float32"}

    def fuse(self, run: Run, members: list[Path], manifest: Path, folder: Path) -> dict[str, Any]:
        self.ran.append(f"fuse {len(members)}")
        return metrics(0.7)

    def part(self, run: Run, trained: Path, manifest: Path, folder: Path) -> list[dict[str, Any]]:
        self.ran.append(f"views of {trained.parent.name}")
        return [metrics(0.5), metrics(0.7)]


class Deadly(Recorder):
    """Hands that end their process, as a crash does, at the arm that is to fail."""

    def execute(self, run: Run, manifest: Path, folder: Path) -> dict[str, Any]:
        if run.arm.name == self.fail:
            os._exit(1)
        return super().execute(run, manifest, folder)


def row(rows: list[Row], arm: str, labelled: int) -> Row:
    """Return the row of an arm."""
    return next(each for each in rows if (each.arm, each.labelled) == (arm, labelled))
