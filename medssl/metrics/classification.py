"""Scores of classified cases as functions of weights of the cases, so that a bootstrap is a few products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medssl.metrics.auroc import area_under_roc
from medssl.metrics.detection_table import Values, Weights


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassTable:
    """The true class and the probabilities of each case.

    Attributes:
        truth: (cases), from 0.
        probabilities: (cases, classes).
    """

    truth: NDArray[np.int64]
    probabilities: Values

    @property
    def classes(self) -> int:
        """Number of classes."""
        return int(self.probabilities.shape[1])

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The most probable class of each case, the first of equal ones."""
        return self.probabilities.argmax(1)

    def once(self) -> Weights:
        """Return the weights (1, cases) that count every case once."""
        return np.ones((1, len(self.truth)))


def accuracy(table: ClassTable, weights: Weights) -> Values:
    """Return the share of rightly classified cases of each draw; NaN without cases."""
    with np.errstate(invalid="ignore"):
        return weights @ (table.predicted == table.truth).astype(np.float64) / weights.sum(1)


def class_auc(table: ClassTable, weights: Weights, *, number: int) -> Values:
    """Return the area under the ROC curve of one class against all others; NaN where a draw has only one kind."""
    return area_under_roc(table.probabilities[:, number], table.truth == number, weights)


def class_f1(table: ClassTable, weights: Weights, *, number: int) -> Values:
    """Return 2 TP / (2 TP + FP + FN) of one class; NaN where it is neither present nor predicted."""
    present, predicted = table.truth == number, table.predicted == number
    found = weights @ (present & predicted).astype(np.float64)
    either = weights @ present.astype(np.float64) + weights @ predicted.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(either > 0, 2.0 * found / either, np.nan)


def auc(table: ClassTable, weights: Weights) -> Values:
    """Return the area under the ROC curve: of the second of two classes, else the mean over all; NaN if one is."""
    if table.classes == 2:
        return class_auc(table, weights, number=1)
    return np.mean([class_auc(table, weights, number=number) for number in range(table.classes)], axis=0)


def f1(table: ClassTable, weights: Weights) -> Values:
    """Return the F1 score: of the second of two classes, else the mean over all; NaN if one is."""
    if table.classes == 2:
        return class_f1(table, weights, number=1)
    return np.mean([class_f1(table, weights, number=number) for number in range(table.classes)], axis=0)
