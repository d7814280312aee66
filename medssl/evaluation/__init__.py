"""Floor 2: scores of cases, their policy for empty structures, and intervals."""

from medssl.evaluation.segmentation import ArrayCase, evaluate_arrays, evaluate_segmentations
from medssl.evaluation.statistics import Interval, mean_with_interval, paired_difference
from medssl.evaluation.summary import Evaluation

__all__ = [
    "ArrayCase",
    "Evaluation",
    "Interval",
    "evaluate_arrays",
    "evaluate_segmentations",
    "mean_with_interval",
    "paired_difference",
]
