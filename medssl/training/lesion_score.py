"""Validation of lesion detection: candidates, AUROC and average precision of the validated cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Sized
from typing import Any

import numpy as np
import torch.distributed as dist
from ignite.metrics import Metric
from torch import Tensor

from medssl.metrics.auroc import auroc
from medssl.metrics.average_precision import average_precision
from medssl.metrics.detection_table import detection_table
from medssl.metrics.lesion_candidates import CandidateRule, extract_candidates
from medssl.metrics.lesion_matching import LesionMatch, match_lesions
from medssl.training.distributed import process_count


class LesionScore(Metric):
    """Mean of AUROC (cases) and average precision (lesions), as key metric of a validator.

    Where one of them is not defined, because all validated cases are of one kind, it is the other; without any lesion
    it is NaN, and no weights are chosen by it.

    Args:
        output_transform: Gives (predictions, labels) of a batch: lists of probabilities (2, X, Y, Z) and of labels
            (1, X, Y, Z) with lesions above 0.
        data: The validated data where several processes share it (`CaseSampler`), to leave out what idle ones repeat.
        rule: How candidates are cut out of the probability; by default as `CandidateRule` does.
    """

    def __init__(
        self, *, output_transform: Callable[..., Any], data: Sized | None = None, rule: CandidateRule | None = None
    ) -> None:
        self.count = None if data is None else len(data)
        self.rule = rule or CandidateRule()
        self._matches: list[LesionMatch] = []
        super().__init__(output_transform=output_transform)

    def reset(self) -> None:
        """Forget the cases of the last validation."""
        self._matches = []

    def update(self, output: tuple[list[Tensor], list[Tensor]]) -> None:
        """Match the lesions of some cases."""
        for probability, label in zip(*output, strict=True):
            values = probability[-1].detach().float().cpu().numpy()
            # Softmax of float32 may end a rounding error above 1
            detection = extract_candidates(np.asarray(values).clip(0, 1), self.rule)
            self._matches.append(match_lesions(detection, (label[0] > 0).cpu().numpy()))

    def compute(self) -> float:
        """Return the score of the cases of all processes."""
        table = detection_table(self._gathered())
        values = [float(function(table, table.once())[0]) for function in (auroc, average_precision)]
        if math.isnan(values[1]):
            return math.nan
        return float(np.nanmean(values))

    def _gathered(self) -> list[LesionMatch]:
        if process_count() == 1:
            return self._matches
        shares: list[Any] = [None] * process_count()
        dist.all_gather_object(shares, self._matches)
        return [match for share in shares for match in share][: self.count]
