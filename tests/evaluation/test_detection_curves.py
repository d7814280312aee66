"""Curves with bands: the curve is that of all cases, and the band is that of the numbers read from it."""

import numpy as np
import pytest
from metrics.random_lesions import cases

from medssl.evaluation.detection_curves import froc_band, precision_recall_band, roc_band
from medssl.evaluation.statistics import draw_groups
from medssl.metrics.auroc import auroc
from medssl.metrics.average_precision import average_precision
from medssl.metrics.detection_table import detection_table
from medssl.metrics.froc import sensitivity_at
from medssl.metrics.lesion_matching import match_lesions


@pytest.fixture(scope="module")
def table():
    return detection_table([match_lesions(*case) for case in cases(60)])


@pytest.fixture(scope="module")
def groups(table):
    return [f"g{number // 2}" for number in range(table.cases)]


def test_the_roc_curve_has_the_area_and_lies_in_its_band(table, groups):
    band = roc_band(table, groups)
    assert np.trapezoid(band.y, band.x) == pytest.approx(auroc(table, table.once())[0], abs=0.01)
    assert (band.low <= band.y + 1e-9).all()
    assert (band.high >= band.y - 1e-9).all()


def test_the_free_response_band_is_the_interval_of_its_operating_points(table, groups):
    band = froc_band(table, groups)
    weights = np.concatenate(list(draw_groups(groups, seed=0, draws=500)))
    for point in (0.5, 1.0):
        at = int(np.argmin(np.abs(band.x - point)))
        values = sensitivity_at(table, weights, false_per_case=float(band.x[at]))
        assert band.y[at] == sensitivity_at(table, table.once(), false_per_case=float(band.x[at]))[0]
        np.testing.assert_allclose([band.low[at], band.high[at]], np.percentile(values, [2.5, 97.5]))
    assert 2 <= band.x[-1] <= 5


def test_the_precision_recall_curve_has_the_average_precision(table, groups):
    band = precision_recall_band(table, groups)
    assert np.trapezoid(band.y, band.x) == pytest.approx(average_precision(table, table.once())[0], abs=0.01)
    assert band.y[-1] == 0  # some lesions were never found


def _one_kind(lesion):
    detection, reference = np.zeros((6, 6, 6), np.float32), np.zeros((6, 6, 6))
    detection[:2] = 0.5
    reference[:2] = lesion
    return detection_table([match_lesions(detection, reference) for _ in range(4)])


def test_what_is_not_defined_has_no_curve():
    names = ["a", "b", "c", "d"]
    assert roc_band(_one_kind(1), names) is None
    assert froc_band(_one_kind(1), names).y[0] == 1
    for band in (froc_band, precision_recall_band):
        assert band(_one_kind(0), names) is None


def test_few_patients_have_a_curve_without_a_band(table):
    band = froc_band(table, ["a"] * table.cases)
    assert band.low is None
    assert len(band.y) == len(band.x)
