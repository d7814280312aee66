"""An evaluation of classified cases as a value: metrics with intervals, paired differences, JSON and table."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from medssl.core.findings import Finding
from medssl.evaluation.detection_summary import Estimate
from medssl.evaluation.statistics import DRAWS, MINIMUM_GROUPS, bounds_of_draws, draw_groups
from medssl.metrics.classification import ClassTable, accuracy, auc, class_auc, class_f1, f1
from medssl.metrics.detection_table import Values, Weights

_Metric = Callable[[ClassTable, Weights], Values]

POLICY = (
    "A case counts for its most probable class. Of two classes, AUC and F1 are those of the second; of more, the means "
    "over classes, each against all others. Equal probabilities count half in the AUC."
)
"""How classes are counted; printed with every table and written into every metrics.json."""

INTERVAL = (
    f"low and high bound the 95% interval by patient-level bootstrap ({DRAWS} draws, percentiles). Draws in which a "
    "metric is not defined are left out and counted; low and high are null with fewer than "
    f"{MINIMUM_GROUPS} patients, or if fewer than half of the draws are defined. "
    "A case without a patient in the manifest counts as a patient of its own."
)
"""How the intervals are made."""


@dataclass(frozen=True, kw_only=True)
class ClassCase:
    """One case: its true class and what was predicted.

    Attributes:
        id: Case id.
        group: Ordinal of the patient.
        fold: Its fold, or None.
        truth: True class, from 0.
        probabilities: Of every class; empty if there is no usable prediction.
    """

    id: str
    group: str
    fold: int | None = None
    truth: int
    probabilities: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ClassEvaluation:
    """Classified cases.

    Attributes:
        classes: Names, in the order of the probabilities.
        seed: Seed of the bootstrap.
        cases: All cases that should have been scored, in order; those without probabilities failed.
        findings: All that was noticed.
    """

    classes: tuple[str, ...]
    seed: int
    cases: tuple[ClassCase, ...]
    findings: tuple[Finding, ...] = ()

    @cached_property
    def scored(self) -> tuple[ClassCase, ...]:
        """The cases that were scored."""
        return tuple(case for case in self.cases if case.probabilities)

    @property
    def failed(self) -> tuple[ClassCase, ...]:
        """The cases that could not be scored; a finding says why."""
        return tuple(case for case in self.cases if not case.probabilities)

    @property
    def patients(self) -> int:
        """Number of groups (patients) among the scored cases."""
        return len({case.group for case in self.scored})

    @cached_property
    def metrics(self) -> dict[str, Estimate]:
        """AUC, F1 and accuracy, and with more than two classes AUC and F1 of each, with intervals."""
        return estimate_classes(self.scored, metrics_of(self.classes), len(self.classes), seed=self.seed)

    @cached_property
    def confusion(self) -> list[list[int]]:
        """Scored cases by true class (rows) and most probable class (columns)."""
        table = _table(self.scored, len(self.classes))
        counted = Counter(zip(table.truth.tolist(), table.predicted.tolist(), strict=True))
        size = range(len(self.classes))
        return [[counted[row, column] for column in size] for row in size]

    def to_json(self) -> dict[str, Any]:
        """Return metrics.json's content, but for the provenance block."""
        return {
            "task": "classification",
            "labels": {str(number): name for number, name in enumerate(self.classes)},
            "policy": POLICY,
            "interval": INTERVAL,
            "seed": self.seed,
            "counts": {
                "cases": len(self.cases),
                "scored": len(self.scored),
                "failed": len(self.failed),
                "groups": self.patients,
            },
            "confusion": self.confusion,
            "cases": [
                {
                    "id": case.id,
                    "group": case.group,
                    "fold": case.fold,
                    "truth": self.classes[case.truth],
                    "probabilities": dict(zip(self.classes, case.probabilities, strict=True)),
                }
                for case in self.scored
            ],
            "failed": [{"id": case.id, "group": case.group} for case in self.failed],
            "summary": {name: each.to_json() for name, each in self.metrics.items()},
            "findings": [finding.to_json() for finding in self.findings],
        }

    def to_csv(self) -> str:
        """Return one row for each case; failed cases have empty values."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case", "group", "fold", "truth", "predicted", *self.classes])
        for case in self.cases:
            values: Sequence[float | None] = case.probabilities or [None] * len(self.classes)
            predicted = self.classes[int(np.argmax(case.probabilities))] if case.probabilities else None
            writer.writerow([case.id, case.group, case.fold, self.classes[case.truth], predicted, *values])
        return stream.getvalue()


def metrics_of(classes: Sequence[str]) -> dict[str, _Metric]:
    """Return the metrics by name; those of single classes only where there are more than two."""
    found: dict[str, _Metric] = {"auc": auc, "f1": f1, "accuracy": accuracy}
    if len(classes) > 2:
        for number, name in enumerate(classes):
            found[f"auc_{name}"] = partial(class_auc, number=number)
            found[f"f1_{name}"] = partial(class_f1, number=number)
    return found


def estimate_classes(
    cases: Sequence[ClassCase], metrics: dict[str, _Metric], classes: int, *, seed: int, draws: int = DRAWS
) -> dict[str, Estimate]:
    """Return metrics of scored cases with patient-level bootstrap intervals; all see the same draws."""
    table = _table(cases, classes)
    drawn = list(draw_groups([case.group for case in cases], seed=seed, draws=draws))
    found = {}
    for name, metric in metrics.items():
        value = metric(table, table.once())[0] if cases else np.nan
        values = np.concatenate([np.empty(0), *(metric(table, weights) for weights in drawn)])
        found[name] = _estimate(name, float(value), values, draws)
    return found


def paired_class_difference(
    a: Sequence[ClassCase], b: Sequence[ClassCase], metric: _Metric, classes: int, *, seed: int = 0, draws: int = DRAWS
) -> Estimate:
    """Return a metric of one evaluation minus that of another of the same cases, drawing the same patients for both.

    Args:
        a: Scored cases.
        b: The same cases, in the same order.
        metric: Such as `medssl.metrics.classification.auc`.
        classes: Number of classes.
        seed: Seed of the draws.
        draws: Number of draws.

    Raises:
        ValueError: If the cases differ.
    """
    if [(case.id, case.truth) for case in a] != [(case.id, case.truth) for case in b]:
        message = "paired difference: expected the same cases in the same order."
        raise ValueError(message)
    first, second = _table(a, classes), _table(b, classes)
    value = metric(first, first.once())[0] - metric(second, second.once())[0]
    drawn = draw_groups([case.group for case in a], seed=seed, draws=draws)
    values = [metric(first, weights) - metric(second, weights) for weights in drawn]
    return _estimate("difference", float(value), np.concatenate([np.empty(0), *values]), draws)


def _estimate(name: str, value: float, drawn: Values, draws: int) -> Estimate:
    if not np.isfinite(value):
        reason = f"{name} is not defined: a class has no case, or all cases are of one class."
        return Estimate(value=None, reason=reason)
    low, high, defined = bounds_of_draws(drawn, draws)
    return Estimate(value=value, low=low, high=high, draws=defined)


def _table(cases: Sequence[ClassCase], classes: int) -> ClassTable:
    return ClassTable(
        truth=np.array([case.truth for case in cases], dtype=np.int64),
        probabilities=np.array([case.probabilities for case in cases], dtype=np.float64).reshape(-1, classes),
    )
