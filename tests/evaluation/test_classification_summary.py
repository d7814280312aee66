"""Intervals that draw patients, paired differences, and metrics that are not defined."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from medssl.evaluation.classification_summary import ClassCase, ClassEvaluation, paired_class_difference
from medssl.metrics.classification import ClassTable, auc


def _cases(count: int = 40, *, patients: int = 40, noise: float = 0.3, seed: int = 0) -> tuple[ClassCase, ...]:
    rng = np.random.default_rng(seed)
    cases = []
    for number in range(count):
        score = float(np.clip(0.5 + (number % 2 - 0.5) * 0.4 + rng.normal(0, noise), 0, 1))
        group = f"g{number % patients:03d}"
        cases.append(ClassCase(id=str(number), group=group, truth=number % 2, probabilities=(1 - score, score)))
    return tuple(cases)


def _evaluation(cases: tuple[ClassCase, ...], **options) -> ClassEvaluation:
    return ClassEvaluation(classes=("plain", "spot"), seed=0, cases=cases, **options)


def test_values_are_those_of_all_cases_inside_their_intervals() -> None:
    cases = _cases()
    table = ClassTable(
        truth=np.array([case.truth for case in cases]), probabilities=np.array([case.probabilities for case in cases])
    )
    found = _evaluation(cases).metrics["auc"]
    assert found.value == pytest.approx(float(auc(table, table.once())[0]))
    assert found.low < found.value < found.high
    assert found.draws == 2000


def test_patients_are_drawn_and_not_images() -> None:
    wide, narrow = (_evaluation(_cases(60, patients=patients)).metrics["accuracy"] for patients in (4, 60))
    assert wide.value == narrow.value
    assert (wide.low, wide.high) != (narrow.low, narrow.high)
    assert _evaluation(_cases(60, patients=2)).metrics["accuracy"].low is None


def test_one_class_alone_says_why_there_is_no_auc() -> None:
    cases = tuple(case for case in _cases() if case.truth == 0)
    found = _evaluation(cases).metrics["auc"]
    assert found.value is None
    assert "one class" in found.reason


def test_failed_cases_are_counted_and_listed() -> None:
    failed = ClassCase(id="x", group="g999", truth=1)
    evaluation = _evaluation((*_cases(), failed))
    content = json.loads(json.dumps(evaluation.to_json(), allow_nan=False))
    assert content["counts"] == {"cases": 41, "scored": 40, "failed": 1, "groups": 40}
    rows = list(csv.reader(io.StringIO(evaluation.to_csv())))
    assert rows[-1] == ["x", "g999", "", "spot", "", "", ""]
    assert sum(map(sum, content["confusion"])) == 40


def test_more_classes_have_metrics_of_their_own() -> None:
    cases = [ClassCase(id=str(i), group=str(i), truth=i % 3, probabilities=(0.2, 0.3, 0.5)) for i in range(9)]
    metrics = ClassEvaluation(classes=("a", "b", "c"), seed=0, cases=tuple(cases)).metrics
    assert set(metrics) == {"auc", "f1", "accuracy", *(f"{kind}_{name}" for kind in ("auc", "f1") for name in "abc")}
    assert metrics["auc"].value == 0.5


def test_a_paired_difference_is_sharper_than_two_intervals() -> None:
    good = _cases()
    other = ClassCase(id="0", group=good[0].group, truth=0, probabilities=(0.45, 0.55))
    worse = (other, *good[1:])
    found = paired_class_difference(good, worse, auc, 2)
    alone = _evaluation(good).metrics["auc"]
    assert found.high - found.low < alone.high - alone.low
    assert paired_class_difference(good, good, auc, 2).value == 0.0
    with pytest.raises(ValueError, match="same cases"):
        paired_class_difference(good, good[1:], auc, 2)
