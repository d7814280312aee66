"""Average precision of lesions: against picai_eval, with draws as weights, and where it is not defined."""

import contextlib
import io
import warnings

import numpy as np
import pytest
from metrics.random_lesions import cases

from medssl.metrics.average_precision import average_precision, precision_recall_curve
from medssl.metrics.detection_table import detection_table
from medssl.metrics.lesion_matching import match_lesions


@pytest.fixture(scope="module")
def matches():
    return [match_lesions(*case) for case in cases(40)]


def _picai(matches):
    with contextlib.redirect_stdout(io.StringIO()):
        metrics = pytest.importorskip("picai_eval.metrics")
    return metrics.Metrics(lesion_results=dict(enumerate(match.entries for match in matches)))


def test_precision_equals_the_reference(matches):
    table = detection_table(matches)
    assert average_precision(table, table.once())[0] == pytest.approx(_picai(matches).AP, abs=1e-12)


def test_weights_are_repeated_cases(matches):
    table = detection_table(matches)
    weights = np.random.default_rng(2).multinomial(table.cases, np.full(table.cases, 1 / table.cases), size=5)
    for draw, found in zip(weights, average_precision(table, weights.astype(float)), strict=True):
        repeated = [match for match, times in zip(matches, draw, strict=True) for _ in range(times)]
        assert found == pytest.approx(_picai(repeated).AP, abs=1e-12)


def _case(detected, lesion):
    detection, reference = np.zeros((6, 6, 6), np.float32), np.zeros((6, 6, 6), np.int32)
    detection[:2, :2, :2] = detected
    reference[:2, :2, :2] = lesion
    return match_lesions(detection, reference)


def test_a_perfect_result_is_one_and_no_detection_is_zero():
    perfect, nothing = detection_table([_case(0.7, 1)]), detection_table([_case(0, 1)])
    assert average_precision(perfect, perfect.once())[0] == 1
    assert average_precision(nothing, nothing.once())[0] == 0
    assert str(average_precision(nothing, nothing.once())[0]) == "0.0"  # not the reference's -0.0


def test_without_a_lesion_there_is_no_precision():
    table = detection_table([_case(0.7, 0)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(average_precision(table, table.once())[0])


def test_the_curve_has_the_area(matches):
    table = detection_table(matches)
    recall, precision = precision_recall_curve(table, table.once())
    area = (np.diff(recall) * precision[1:]).sum()
    assert (recall[0], precision[0]) == (0, 1)
    assert area == pytest.approx(average_precision(table, table.once())[0], abs=1e-12)
