"""A detection evaluation as a value: metrics with intervals, what is not defined and why, and its JSON and table."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from medssl.core.findings import Finding
from medssl.evaluation.detection_case import DetectionCase
from medssl.evaluation.statistics import DRAWS, MINIMUM_GROUPS, bounds_of_draws, draw_groups
from medssl.metrics.auroc import auroc
from medssl.metrics.average_precision import average_precision
from medssl.metrics.detection_table import DetectionTable, Values, Weights, detection_table
from medssl.metrics.froc import OPERATING_POINTS, sensitivity_at

_Metric = Callable[[DetectionTable, Weights], Values]

POLICY = (
    "A candidate is a 26-connected component of the detection map. It finds a lesion if their intersection over union "
    "reaches the minimum overlap; as many pairs as possible are matched, and among equally many those that overlap "
    "most. A second candidate on a lesion that was found counts for nothing. AUROC is over cases, whose confidence is "
    "the highest of the map; average precision (AP) is over lesions; the score is their mean. Sensitivities are the "
    "share of lesions found with at most so many false candidates a case."
)
"""How detections are counted; printed with every table and written into every metrics.json."""

INTERVAL = (
    f"low and high bound the 95% interval by patient-level bootstrap ({DRAWS} draws, percentiles). Draws in which a "
    "metric is not defined are left out and counted; low and high are null with fewer than "
    f"{MINIMUM_GROUPS} patients, or if fewer than half of the draws are defined. "
    "A case without a patient in the manifest counts as a patient of its own."
)
"""How the intervals are made."""


def _score(table: DetectionTable, weights: Weights) -> Values:
    return (auroc(table, weights) + average_precision(table, weights)) / 2


_AT = {f"sensitivity_at_{point:g}": partial(sensitivity_at, false_per_case=point) for point in OPERATING_POINTS}
METRICS: dict[str, _Metric] = {"auroc": auroc, "ap": average_precision, "score": _score, **_AT}
"""The metrics by name, as functions of a table and weights of its cases."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """One metric over all scored cases.

    Attributes:
        value: The metric, or None where it is not defined.
        low: 2.5th percentile of the draws, or None.
        high: 97.5th percentile.
        draws: Number of draws in which it is defined.
        reason: Why there is no value, or None.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    draws: int = 0
    reason: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the estimate as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class FoldEstimate:
    """Metrics of the cases of one fold, without intervals; `reasons` tells of each that is None why it is."""

    fold: int
    cases: int
    positive: int
    metrics: dict[str, float | None]
    reasons: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the estimates as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class DetectionEvaluation:
    """Detections of many cases.

    Attributes:
        lesion: Name of the class that was detected.
        minimum_overlap: Intersection over union from which a candidate can match a lesion.
        seed: Seed of the bootstrap.
        cases: All cases that should have been scored, in order; those without a match failed.
        findings: All that was noticed, about the folder first and then case by case.
    """

    lesion: str
    minimum_overlap: float
    seed: int
    cases: tuple[DetectionCase, ...]
    findings: tuple[Finding, ...] = ()

    @cached_property
    def scored(self) -> tuple[DetectionCase, ...]:
        """The cases that were scored."""
        return tuple(case for case in self.cases if case.match is not None)

    @property
    def failed(self) -> tuple[DetectionCase, ...]:
        """The cases that could not be scored; a finding says why."""
        return tuple(case for case in self.cases if case.match is None)

    @property
    def patients(self) -> int:
        """Number of groups (patients) among the scored cases."""
        return len({case.group for case in self.scored})

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many cases, lesions and candidates there are of each kind."""
        matches = [case.match for case in self.scored if case.match is not None]
        outcomes = [candidate.outcome for match in matches for candidate in match.candidates]
        return {
            "cases": len(self.cases),
            "scored": len(self.scored),
            "failed": len(self.failed),
            "groups": self.patients,
            "positive": sum(match.lesions > 0 for match in matches),
            "negative": sum(match.lesions == 0 for match in matches),
            "lesions": sum(match.lesions for match in matches),
            "found": sum(match.found for match in matches),
            "missed": sum(match.missed for match in matches),
            "false_candidates": outcomes.count("false"),
            "second_candidates": outcomes.count("second"),
            "cases_without_candidate": sum(not match.candidates for match in matches),
        }

    @cached_property
    def metrics(self) -> dict[str, Estimate]:
        """Each metric with its interval, or the reason why it is not defined."""
        return estimate(self.scored, seed=self.seed)

    @cached_property
    def folds(self) -> tuple[FoldEstimate, ...]:
        """Metrics fold by fold, if the manifest gives the scored cases folds."""
        numbers = sorted({case.fold for case in self.scored if case.fold is not None})
        return tuple(self._fold(number) for number in numbers)

    def _fold(self, number: int) -> FoldEstimate:
        cases = [case for case in self.scored if case.fold == number]
        table = _table(cases)
        metrics = {name: _or_none(function(table, table.once())[0]) for name, function in METRICS.items()}
        return FoldEstimate(
            fold=number,
            cases=len(cases),
            positive=int(table.positive.sum()),
            metrics=metrics,
            reasons={name: reason for name, reason in _reasons(table).items() if metrics[name] is None},
        )

    @property
    def statements(self) -> tuple[str, ...]:
        """What a reader must know to read the numbers rightly."""
        counts, metrics = self.counts, self.metrics
        said = [f"{each.reason}" for each in metrics.values() if each.reason]
        if counts["scored"] and counts["cases_without_candidate"] == counts["scored"]:
            values = {"an AUROC": metrics["auroc"].value, "an AP": metrics["ap"].value}
            defined = " and ".join(f"{name} of {value:g}" for name, value in values.items() if value is not None)
            said.append(f"No case has any candidate{f', which gives {defined}' if defined else ''}.")
        elif counts["positive"] and not counts["found"]:
            rests = f"; the AUROC rests on false candidates ({counts['false_candidates']} in all)"
            defined = rests if metrics["auroc"].value is not None else ""
            said.append(f"None of the {counts['lesions']} lesions was found{defined}.")
        for fold in self.folds:
            own = [reason for name, reason in fold.reasons.items() if metrics[name].value is not None]
            said += [f"Fold {fold.fold}: {reason}" for reason in own]
        return tuple(dict.fromkeys(said))

    def to_json(self) -> dict[str, Any]:
        """Return metrics.json's content, but for the provenance block."""
        return {
            "task": "detection",
            "labels": {"1": self.lesion},
            "policy": POLICY,
            "interval": INTERVAL,
            "minimum_overlap": self.minimum_overlap,
            "seed": self.seed,
            "counts": self.counts,
            "cases": [case.to_json() for case in self.scored],
            "failed": [case.to_json() for case in self.failed],
            "summary": {name: each.to_json() for name, each in self.metrics.items()},
            "folds": [fold.to_json() for fold in self.folds],
            "statements": list(self.statements),
            "findings": [finding.to_json() for finding in self.findings],
        }

    def to_csv(self) -> str:
        """Return one row for each case; failed cases have state "failed" and empty values."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["case", "group", "fold", "state", "confidence", "lesions", "found", "missed", "false"])
        for case in self.cases:
            row: list[Any] = [case.id, case.group, case.fold]
            if case.match is None:
                row += ["failed", *[None] * 5]
            else:
                false = sum(candidate.outcome == "false" for candidate in case.match.candidates)
                state = "positive" if case.match.lesions else "negative"
                row += [state, case.match.confidence, case.match.lesions, case.match.found, case.match.missed, false]
            writer.writerow(row)
        return stream.getvalue()


def estimate(cases: Sequence[DetectionCase], *, seed: int, draws: int = DRAWS) -> dict[str, Estimate]:
    """Return each metric of scored cases with a patient-level bootstrap interval.

    Args:
        cases: Scored cases.
        seed: Seed of the draws; all metrics see the same draws.
        draws: Number of draws.
    """
    table = _table(cases)
    reasons = _reasons(table)
    drawn: dict[str, list[Values]] = {name: [] for name in METRICS}
    for weights in draw_groups([case.group for case in cases], seed=seed, draws=draws):
        for name, function in METRICS.items():
            drawn[name].append(function(table, weights))
    return {name: _estimate(name, table, values, reasons, draws) for name, values in drawn.items()}


def _estimate(name: str, table: DetectionTable, values: list[Values], reasons: dict[str, str], draws: int) -> Estimate:
    value = _or_none(METRICS[name](table, table.once())[0])
    if value is None:
        return Estimate(value=None, reason=reasons.get(name, "No case was scored."))
    low, high, defined = bounds_of_draws(np.concatenate([np.empty(0), *values]), draws)
    return Estimate(value=value, low=low, high=high, draws=defined)


def _reasons(table: DetectionTable) -> dict[str, str]:
    """Say for each metric why it is not defined, if it is not."""
    if not table.cases:
        return {}
    positive = int(table.positive.sum())
    reasons: dict[str, str] = {}
    if positive in (0, table.cases):
        kind, other = ("negative", "positive") if positive == 0 else ("positive", "negative")
        text = f"AUROC is not defined: all {table.cases} scored cases are {kind}, none is {other}."
        reasons |= {"auroc": text, "score": "The score is not defined, because AUROC or AP is not."}
    if positive == 0:
        reasons["ap"] = "AP is not defined: no scored case has a lesion."
        reasons |= dict.fromkeys(_AT, "Sensitivity is not defined: no scored case has a lesion.")
    return reasons


def _table(cases: Sequence[DetectionCase]) -> DetectionTable:
    return detection_table([case.match for case in cases if case.match is not None])


def _or_none(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
