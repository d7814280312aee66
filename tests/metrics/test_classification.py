"""Scores of classes against plain loops over repeated cases."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from medssl.metrics.classification import ClassTable, accuracy, auc, class_auc, class_f1, f1


def _table(cases: int = 12, classes: int = 2, seed: int = 0) -> ClassTable:
    rng = np.random.default_rng(seed)
    scores = rng.integers(1, 6, (cases, classes)).astype(float)  # with ties
    return ClassTable(truth=rng.integers(0, classes, cases), probabilities=scores / scores.sum(1, keepdims=True))


def _drawn(table: ClassTable, weights: np.ndarray) -> ClassTable:
    rows = np.repeat(np.arange(len(table.truth)), weights.astype(int))
    return ClassTable(truth=table.truth[rows], probabilities=table.probabilities[rows])


def _loop_auc(table: ClassTable, number: int) -> float:
    scores = table.probabilities[:, number]
    pairs = [
        (a > b) + (a == b) / 2
        for (a, p), (b, q) in itertools.product(zip(scores, table.truth, strict=True), repeat=2)
        if p == number != q
    ]
    return sum(pairs) / len(pairs)


def _loop_f1(table: ClassTable, number: int) -> float:
    pairs = list(zip(table.truth.tolist(), table.predicted.tolist(), strict=True))
    found = sum(pair == (number, number) for pair in pairs)
    return 2 * found / sum((truth == number) + (predicted == number) for truth, predicted in pairs)


@pytest.mark.parametrize("classes", [2, 3])
def test_every_metric_equals_a_loop_over_the_drawn_cases(classes: int) -> None:
    table = _table(classes=classes)
    weights = np.random.default_rng(1).integers(1, 4, (5, 12)).astype(float)
    for draw, row in enumerate(weights):
        drawn = _drawn(table, row)
        right = np.mean(drawn.predicted == drawn.truth)
        assert accuracy(table, weights)[draw] == pytest.approx(right)
        for number in range(classes):
            assert class_auc(table, weights, number=number)[draw] == pytest.approx(_loop_auc(drawn, number))
            assert class_f1(table, weights, number=number)[draw] == pytest.approx(_loop_f1(drawn, number))


def test_of_two_classes_the_second_counts_and_of_more_the_mean() -> None:
    two, three = _table(), _table(classes=3)
    assert auc(two, two.once()) == class_auc(two, two.once(), number=1)
    assert f1(two, two.once()) == class_f1(two, two.once(), number=1)
    assert auc(three, three.once())[0] == pytest.approx(np.mean([_loop_auc(three, number) for number in range(3)]))


def test_what_is_not_defined_is_nan() -> None:
    table = ClassTable(truth=np.zeros(3, dtype=np.int64), probabilities=np.tile([0.8, 0.2], (3, 1)))
    assert np.isnan(auc(table, table.once()))
    assert np.isnan(f1(table, table.once()))
    assert accuracy(table, table.once())[0] == 1.0
