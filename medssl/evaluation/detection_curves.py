"""ROC, free-response and precision-recall curves with pointwise intervals over patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medssl.evaluation.statistics import draw_groups
from medssl.metrics.auroc import roc_curve
from medssl.metrics.average_precision import precision_recall_curve
from medssl.metrics.detection_table import DetectionTable, Values, Weights
from medssl.metrics.froc import froc_curve

CURVE_DRAWS = 500
"""Draws of a band; fewer than of a number, because each draw is a whole curve."""

MOST_FALSE_PER_CASE = 5.0
"""Where the free-response curve ends."""

_POINTS = 201

_Curve = Callable[[DetectionTable, Weights], tuple[Values, Values]]
_Reading = Callable[[Values, Values, Values], Values]


@dataclass(frozen=True, kw_only=True, eq=False)
class Band:
    """A curve on even steps of its horizontal axis, with the pointwise 95% interval.

    Attributes:
        x: Where the curve is read.
        y: Its value there.
        low: 2.5th percentile over draws of patients; None with too few patients or defined draws.
        high: 97.5th percentile.
    """

    x: Values
    y: Values
    low: Values | None = None
    high: Values | None = None


def roc_band(table: DetectionTable, groups: Sequence[str], *, seed: int = 0) -> Band | None:
    """Return the true positive rate of cases over the false positive rate, or None with one kind of case only."""
    return _band(roc_curve, _between, np.linspace(0, 1, _POINTS), table, groups, seed=seed)


def froc_band(table: DetectionTable, groups: Sequence[str], *, seed: int = 0) -> Band | None:
    """Return the share of lesions found over false candidates a case, or None without a lesion.

    The axis ends where the curve of all cases does, at `MOST_FALSE_PER_CASE` at the latest and at 2 at the earliest.
    """
    false, _ = froc_curve(table, table.once())
    end = float(np.clip(false[-1], 2.0, MOST_FALSE_PER_CASE)) if len(false) else 2.0
    return _band(froc_curve, _at_most, np.linspace(0, end, _POINTS), table, groups, seed=seed)


def precision_recall_band(table: DetectionTable, groups: Sequence[str], *, seed: int = 0) -> Band | None:
    """Return the precision of candidates at the threshold that reaches a recall, 0 beyond the recall of all of them.

    None without a lesion.
    """
    return _band(precision_recall_curve, _reaching, np.linspace(0, 1, _POINTS), table, groups, seed=seed)


def _band(
    curve: _Curve, read: _Reading, x: Values, table: DetectionTable, groups: Sequence[str], *, seed: int
) -> Band | None:
    own = curve(table, table.once())
    if not (np.isfinite(own[0]).all() and np.isfinite(own[1]).all()):
        return None
    drawn: list[NDArray[np.float64]] = []
    for weights in draw_groups(groups, seed=seed, draws=CURVE_DRAWS):
        curves = (curve(table, draw[None]) for draw in weights)
        drawn += [read(x, *each) for each in curves if np.isfinite(each[0]).all() and np.isfinite(each[1]).all()]
    if len(drawn) < CURVE_DRAWS / 2:
        return Band(x=x, y=read(x, *own))
    low, high = np.percentile(np.stack(drawn), [2.5, 97.5], axis=0)
    return Band(x=x, y=read(x, *own), low=low, high=high)


def _between(x: Values, across: Values, up: Values) -> Values:
    """Read a rising curve with straight lines between its points; at a vertical step its upper end counts."""
    last = np.append(np.diff(across) > 0, True)
    return np.interp(x, across[last], up[last])


def _at_most(x: Values, across: Values, up: Values) -> Values:
    """Read a step curve: the highest point that lies at or before x."""
    return up[np.searchsorted(across, x * (1 + 1e-12), side="right") - 1]


def _reaching(x: Values, across: Values, up: Values) -> Values:
    """Read a curve at the first point that reaches x; 0 where none does."""
    first = np.searchsorted(across, x * (1 - 1e-12), side="left")
    return np.where(first < len(across), up[np.minimum(first, len(across) - 1)], 0.0)
