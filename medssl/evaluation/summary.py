"""An evaluation as a value: scored and failed cases, the summary over them, and its JSON and table forms."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from medssl.core.findings import Finding
from medssl.evaluation.case import CaseResult
from medssl.evaluation.statistics import DRAWS, MINIMUM_GROUPS, Interval, mean_with_interval
from medssl.metrics import METRICS, POLICY, STATES

MEAN_METRICS = METRICS[:3]
"""Metrics that may be averaged over classes; volume errors of different structures may not."""

INTERVAL = (
    f"low and high bound the 95% interval of the mean by patient-level bootstrap ({DRAWS} draws, percentiles); "
    f"they are null with fewer than {MINIMUM_GROUPS} patients. "
    "A case without a patient in the manifest counts as a patient of its own."
)
"""How the intervals are made; printed with every table and written into every metrics.json."""


@dataclass(frozen=True, kw_only=True)
class ClassSummary:
    """What all cases together say about one class.

    Attributes:
        metrics: Mean and interval of each metric over the cases where it is defined.
        counts: Number of cases in each state: both, missed, false, absent.
    """

    metrics: dict[str, Interval]
    counts: dict[str, int]

    @property
    def evaluated(self) -> bool:
        """Tell whether the class exists in any case, in the reference or in the prediction."""
        return self.counts["absent"] < sum(self.counts.values())

    def to_json(self) -> dict[str, Any]:
        """Return the summary as plain JSON values."""
        metrics = {name: interval.to_json() for name, interval in self.metrics.items()}
        return {**metrics, "counts": self.counts, "evaluated": self.evaluated}


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Scores of many cases under the policy for empty structures.

    Attributes:
        labels: Reference label value (as a string) to class name, without background.
        tolerance_mm: Tolerance of the surface Dice.
        seed: Seed of the bootstrap.
        cases: All cases that should have been scored, in order; those without scores failed.
        findings: All that was noticed, about the folder first and then case by case.
    """

    labels: dict[str, str]
    tolerance_mm: float
    seed: int
    cases: tuple[CaseResult, ...]
    findings: tuple[Finding, ...] = ()

    @property
    def scored(self) -> tuple[CaseResult, ...]:
        """The cases with scores."""
        return tuple(case for case in self.cases if case.scores)

    @property
    def failed(self) -> tuple[CaseResult, ...]:
        """The cases without scores; a finding says why."""
        return tuple(case for case in self.cases if not case.scores)

    @property
    def patients(self) -> int:
        """Number of groups (patients) among the scored cases."""
        return len({case.group for case in self.scored})

    @cached_property
    def classes(self) -> dict[str, ClassSummary]:
        """The summary of each class."""
        return {name: self._summarise(name) for name in self.labels.values()}

    @cached_property
    def mean(self) -> dict[str, Interval]:
        """The mean over cases of each case's mean over its classes."""
        return {metric: self._interval([case.mean(metric) for case in self.scored]) for metric in MEAN_METRICS}

    def _summarise(self, name: str) -> ClassSummary:
        scores = [case.scores[name] for case in self.scored]
        counted = Counter(score.state for score in scores)
        return ClassSummary(
            metrics={metric: self._interval([getattr(score, metric) for score in scores]) for metric in METRICS},
            counts={state: counted[state] for state in STATES},
        )

    def _interval(self, values: Sequence[float | None]) -> Interval:
        return mean_with_interval(values, [case.group for case in self.scored], seed=self.seed)

    def to_json(self) -> dict[str, Any]:
        """Return metrics.json's content, but for the provenance block."""
        summary = {name: each.to_json() for name, each in self.classes.items()}
        return {
            "task": "segmentation",
            "labels": self.labels,
            "policy": POLICY,
            "interval": INTERVAL,
            "tolerance_mm": self.tolerance_mm,
            "seed": self.seed,
            "counts": {
                "cases": len(self.cases),
                "scored": len(self.scored),
                "failed": len(self.failed),
                "groups": self.patients,
            },
            "cases": [case.to_json() for case in self.scored],
            "failed": [{"id": case.id, "group": case.group} for case in self.failed],
            "summary": {**summary, "mean": {metric: each.to_json() for metric, each in self.mean.items()}},
            "findings": [finding.to_json() for finding in self.findings],
        }

    def to_csv(self) -> str:
        """Return one row for each case and class; undefined values are empty, failed cases have state "failed"."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case", "group", "class", "state", *METRICS])
        for case in self.cases:
            for name in self.labels.values():
                score = case.scores.get(name)
                state = "failed" if score is None else score.state
                values = [None if score is None else getattr(score, metric) for metric in METRICS]
                writer.writerow([case.id, case.group, name, state, *values])
        return stream.getvalue()


def ordinal_groups(groups: Sequence[str]) -> list[str]:
    """Replace names of groups by g001, g002, … in order of appearance, so that no patient reaches an output."""
    ordinals = {group: f"g{position:03d}" for position, group in enumerate(dict.fromkeys(groups), start=1)}
    return [ordinals[group] for group in groups]
