"""Area under the ROC curve: against scikit-learn, with draws as weights, and where it is not defined."""

import numpy as np
import pytest
from metrics.random_lesions import cases
from sklearn.metrics import roc_auc_score

from medssl.metrics.auroc import auroc, roc_curve
from medssl.metrics.detection_table import detection_table
from medssl.metrics.lesion_matching import match_lesions


@pytest.fixture(scope="module")
def table():
    return detection_table([match_lesions(*case) for case in cases(40)])


def test_area_equals_the_reference_with_ties(table):
    assert len(set(table.case_confidence)) < table.cases
    expected = roc_auc_score(table.positive, table.case_confidence)
    assert auroc(table, table.once())[0] == pytest.approx(expected, abs=1e-12)


def test_weights_are_repeated_cases(table):
    weights = np.random.default_rng(1).multinomial(table.cases, np.full(table.cases, 1 / table.cases), size=5)
    for draw, found in zip(weights, auroc(table, weights.astype(float)), strict=True):
        expected = roc_auc_score(np.repeat(table.positive, draw), np.repeat(table.case_confidence, draw))
        assert found == pytest.approx(expected, abs=1e-12)


def test_one_kind_of_case_has_no_area(table):
    only_positive = table.once() * table.positive
    assert np.isnan(auroc(table, only_positive)[0])
    assert np.isnan(roc_curve(table, only_positive)[0]).any()


def test_the_curve_has_the_area(table):
    false, true = roc_curve(table, table.once())
    assert (false[0], true[0], false[-1], true[-1]) == (0, 0, 1, 1)
    assert np.trapezoid(true, false) == pytest.approx(auroc(table, table.once())[0], abs=1e-12)
