"""The results of many cases as arrays, and draws of cases as weights, so that a bootstrap is a few products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medssl.metrics.lesion_matching import LesionMatch

Values = NDArray[np.float64]
Weights = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class DetectionTable:
    """Cases and, one row each, their hits, false candidates and missed lesions.

    Attributes:
        positive: (cases), whether a case has a lesion.
        case_confidence: (cases), highest confidence of a case.
        case: (entries), the case of an entry.
        lesion: (entries), whether it is a lesion, hit or missed.
        confidence: (entries), 0 for a missed lesion.
    """

    positive: NDArray[np.bool_]
    case_confidence: Values
    case: NDArray[np.int64]
    lesion: NDArray[np.bool_]
    confidence: Values

    @property
    def cases(self) -> int:
        """Number of cases."""
        return len(self.positive)

    def once(self) -> Weights:
        """Return the weights (1, cases) that count every case once."""
        return np.ones((1, self.cases))


def detection_table(matches: Sequence[LesionMatch]) -> DetectionTable:
    """Join the matches of cases, in their order."""
    entries = [(index, *entry[:2]) for index, match in enumerate(matches) for entry in match.entries]
    case, lesion, confidence = (list(column) for column in zip(*entries, strict=True)) if entries else ([], [], [])
    return DetectionTable(
        positive=np.array([match.lesions > 0 for match in matches], dtype=bool),
        case_confidence=np.array([match.confidence for match in matches], dtype=np.float64),
        case=np.array(case, dtype=np.int64),
        lesion=np.array(lesion, dtype=bool),
        confidence=np.array(confidence, dtype=np.float64),
    )


def ranked_sums(keys: Values, *columns: Weights) -> tuple[Values, list[Weights]]:
    """Sum columns of weights (draws, rows) over rows of equal key, the highest key first.

    Returns:
        The distinct keys in descending order, and for each column its sums (draws, keys).
    """
    order = np.argsort(-keys, kind="stable")
    distinct, starts = np.unique(-keys[order], return_index=True)
    if not len(keys):
        return distinct, [column[:, :0] for column in columns]
    return -distinct, [np.add.reduceat(column[:, order], starts, axis=1) for column in columns]
