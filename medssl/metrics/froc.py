"""Free-response curve: lesions found against false candidates a case."""

from __future__ import annotations

import numpy as np

from medssl.metrics.average_precision import ranked_counts
from medssl.metrics.detection_table import DetectionTable, Values, Weights

OPERATING_POINTS = (0.5, 1.0, 2.0)
"""False candidates a case at which sensitivities are reported."""


def sensitivity_at(table: DetectionTable, weights: Weights, *, false_per_case: float) -> Values:
    """Return the share of lesions found in each draw with at most so many false candidates a case.

    The lowest threshold that keeps to them counts; 0 where none does, NaN where a draw has no lesion.

    Args:
        table: Results of the cases.
        weights: How often each draw has each case, (draws, cases).
        false_per_case: Most false candidates a case, on average.
    """
    hits, false, lesions = ranked_counts(table, weights)
    # A rounding error must not exclude a threshold that keeps to the limit exactly
    allowed = false <= false_per_case * weights.sum(1, keepdims=True) * (1 + 1e-12)
    found = np.where(allowed, hits, 0).max(1, initial=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(lesions > 0, found / lesions, np.nan)


def froc_curve(table: DetectionTable, weights: Weights) -> tuple[Values, Values]:
    """Return false candidates a case and the share of lesions found in the first draw, at falling thresholds.

    The curve begins at (0, 0) and ends with the least confident candidate. NaN where there is no lesion.
    """
    hits, false, lesions = ranked_counts(table, weights[:1])
    start = 0.0 if lesions[0] > 0 else np.nan
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.append(0.0, false[0] / weights[0].sum()), np.append(start, hits[0] / lesions[0])
