"""Receiver operating characteristic: how well the confidence of cases tells positive from negative ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from medssl.metrics.detection_table import DetectionTable, Values, Weights, ranked_sums


def auroc(table: DetectionTable, weights: Weights) -> Values:
    """Return the area under the ROC curve of each draw, NaN where a draw has only one kind of case.

    Equal confidences count half, so a table of equal ones gives 0.5.

    Args:
        table: Results of the cases.
        weights: How often each draw has each case, (draws, cases).
    """
    return area_under_roc(table.case_confidence, table.positive, weights)


def area_under_roc(confidence: Values, positive: NDArray[np.bool_], weights: Weights) -> Values:
    """Return the area under the ROC curve of each draw (draws,), NaN where a draw has only one kind of case.

    Args:
        confidence: (cases), higher for positive cases at best; equal ones count half.
        positive: (cases).
        weights: How often each draw has each case, (draws, cases).
    """
    _, (present, absent) = ranked_sums(confidence, weights * positive, weights * ~positive)
    # Negatives below each positive, counted from the top: all but those above and half of the equal ones
    below = absent.sum(1, keepdims=True) - absent.cumsum(1) + absent / 2
    pairs = present.sum(1) * absent.sum(1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(pairs > 0, (present * below).sum(1) / pairs, np.nan)


def roc_curve(table: DetectionTable, weights: Weights) -> tuple[Values, Values]:
    """Return false and true positive rates of the first draw, from (0, 0) to (1, 1) with falling thresholds.

    NaN where there is only one kind of case.
    """
    _, (positive, negative) = _ranked(table, weights[:1])
    with np.errstate(invalid="ignore"):
        rates = [np.append(0.0, each[0].cumsum()) / each[0].sum() for each in (negative, positive)]
    return rates[0], rates[1]


def _ranked(table: DetectionTable, weights: Weights) -> tuple[Values, list[Weights]]:
    columns = (weights * table.positive, weights * ~table.positive)
    return ranked_sums(table.case_confidence, *columns)
