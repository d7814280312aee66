"""Precision and recall of lesions over all candidates, ranked by confidence."""

from __future__ import annotations

import numpy as np

from medssl.metrics.detection_table import DetectionTable, Values, Weights, ranked_sums


def average_precision(table: DetectionTable, weights: Weights) -> Values:
    """Return the average precision of lesions in each draw, NaN where a draw has no lesion.

    The sum over falling thresholds of precision times the recall gained; missed lesions count in the recall and
    never as detected.

    Args:
        table: Results of the cases.
        weights: How often each draw has each case, (draws, cases).

    Note:
        Equal to `Metrics.AP` of picai_eval 1.4.13, which sets the precision at confidence 0 to 0.
    """
    hits, false, lesions = ranked_counts(table, weights)
    gained = np.diff(hits, axis=1, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(hits + false > 0, hits / (hits + false), 0)
        return np.where(lesions > 0, (gained * precision).sum(1) / lesions, np.nan)


def precision_recall_curve(table: DetectionTable, weights: Weights) -> tuple[Values, Values]:
    """Return recall and precision of the first draw at falling thresholds, from recall 0 and precision 1 on.

    NaN where there is no lesion.
    """
    hits, false, lesions = ranked_counts(table, weights[:1])
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = hits[0] / lesions[0]
        precision = hits[0] / (hits[0] + false[0])
    return np.append(0.0, recall), np.append(1.0, precision)


def ranked_counts(table: DetectionTable, weights: Weights) -> tuple[Weights, Weights, Values]:
    """Count hits and false candidates at falling thresholds, and all lesions.

    Returns:
        Hits and false candidates at or above each distinct confidence, (draws, thresholds), and lesions (draws).
    """
    of_entry = weights[:, table.case]
    lesions = (of_entry * table.lesion).sum(1)
    is_candidate = table.confidence > 0
    rows, lesion = of_entry[:, is_candidate], table.lesion[is_candidate]
    _, (hits, false) = ranked_sums(table.confidence[is_candidate], rows * lesion, rows * ~lesion)
    return hits.cumsum(1), false.cumsum(1), lesions
