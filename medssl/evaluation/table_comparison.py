"""Metrics over all cases at once (AUC, average precision) of two evaluations, under the same draws of patients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from medssl.evaluation.classification_summary import metrics_of
from medssl.evaluation.detection_summary import METRICS
from medssl.evaluation.statistics import DRAWS, Interval, bounds_of_draws, draw_groups
from medssl.metrics.classification import ClassTable
from medssl.metrics.detection_table import DetectionTable, Values, Weights, detection_table
from medssl.metrics.lesion_matching import Candidate, LesionMatch

Rows = Sequence[Mapping[str, Any]]
_Metric = Callable[[Any, Weights], Values]
_Table = ClassTable | DetectionTable


def paired_metrics(
    task: str, classes: Sequence[str], a: Rows, b: Rows, *, seed: int = 0, draws: int = DRAWS
) -> dict[str, tuple[Interval, Interval, Interval]]:
    """Return each metric of the first, of the second, and first minus second, with patient-level intervals.

    Args:
        task: "classification" or "detection".
        classes: Names, in the order of the labels.
        a: Scored cases of a metrics.json.
        b: The same cases in the same order, of another.
        seed: Seed of the draws, which all metrics and both evaluations share.
        draws: Number of draws.
    """
    metrics: Mapping[str, _Metric] = metrics_of(classes) if task == "classification" else METRICS
    tables = [_table(task, classes, rows) for rows in (a, b)]
    groups = [str(row["group"]) for row in a]
    drawn = list(draw_groups(groups, seed=seed, draws=draws))
    found = {}
    for name, metric in metrics.items():
        values = [_values(metric, table, drawn) for table in tables]
        three = (*values, values[0] - values[1])
        first, second, difference = (_interval(each, len(a), len(set(groups)), draws) for each in three)
        found[name] = (first, second, difference)
    return found


def _values(metric: _Metric, table: _Table, drawn: Sequence[Weights]) -> Values:
    """Return the metric of all cases, followed by that of each draw."""
    return np.concatenate([metric(table, table.once()), *(metric(table, weights) for weights in drawn)])


def _interval(values: Values, cases: int, groups: int, draws: int) -> Interval:
    if not np.isfinite(values[0]):
        return Interval(mean=None, low=None, high=None, n=cases, groups=groups)
    low, high, _ = bounds_of_draws(values[1:], draws)
    return Interval(mean=float(values[0]), low=low, high=high, n=cases, groups=groups)


def _table(task: str, classes: Sequence[str], rows: Rows) -> _Table:
    if task == "detection":
        return detection_table([_match(row) for row in rows])
    return ClassTable(
        truth=np.array([classes.index(row["truth"]) for row in rows], dtype=np.int64),
        probabilities=np.array([[row["probabilities"][name] for name in classes] for row in rows], dtype=np.float64),
    )


def _match(row: Mapping[str, Any]) -> LesionMatch:
    candidates = tuple(Candidate(**{**each, "centre": tuple(each["centre"])}) for each in row["candidates"])
    return LesionMatch(candidates=candidates, lesions=cast("int", row["lesions"]), confidence=float(row["confidence"]))
