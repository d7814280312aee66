"""Free-response curve: against a count threshold by threshold, and right where the reference's own curve is not."""

import numpy as np
import pytest
from metrics.random_lesions import cases

from medssl.metrics.detection_table import detection_table
from medssl.metrics.froc import froc_curve, sensitivity_at
from medssl.metrics.lesion_matching import match_lesions


@pytest.fixture(scope="module")
def matches():
    return [match_lesions(*case) for case in cases(40)]


def _slow(matches, false_per_case):
    """Try every threshold."""
    entries = [entry for match in matches for entry in match.entries]
    lesions, best = sum(match.lesions for match in matches), 0.0
    for threshold in {confidence for _, confidence, _ in entries if confidence > 0}:
        above = [is_lesion for is_lesion, confidence, _ in entries if confidence >= threshold]
        if (len(above) - sum(above)) / len(matches) <= false_per_case:
            best = max(best, sum(above) / lesions)
    return best


@pytest.mark.parametrize("false_per_case", [0.0, 0.25, 0.5, 1, 2, 100])
def test_sensitivity_equals_a_count_at_every_threshold(matches, false_per_case):
    table = detection_table(matches)
    found = sensitivity_at(table, table.once(), false_per_case=false_per_case)[0]
    assert found == pytest.approx(_slow(matches, false_per_case), abs=1e-12)


def test_weights_are_repeated_cases(matches):
    table = detection_table(matches)
    draw = np.random.default_rng(3).multinomial(table.cases, np.full(table.cases, 1 / table.cases))
    repeated = [match for match, times in zip(matches, draw, strict=True) for _ in range(times)]
    found = sensitivity_at(table, draw[None].astype(float), false_per_case=0.5)[0]
    assert found == pytest.approx(_slow(repeated, 0.5), abs=1e-12)


@pytest.mark.parametrize("confidences", [(0.7,), (0.7, 0.4)])
def test_a_perfect_result_without_misses_reaches_one(confidences):
    volume = np.zeros((10, 4, 4), np.float32)
    for number, confidence in enumerate(confidences):
        volume[4 * number : 4 * number + 2] = confidence
    table = detection_table([match_lesions(volume, (volume > 0).astype(np.int32))])
    assert sensitivity_at(table, table.once(), false_per_case=0.5)[0] == 1
    assert froc_curve(table, table.once())[1][-1] == 1


def test_the_curve_rises_and_ends_with_all_candidates(matches):
    table = detection_table(matches)
    false, found = froc_curve(table, table.once())
    assert (false[0], found[0]) == (0, 0)
    assert (np.diff(false) >= 0).all()
    assert (np.diff(found) >= 0).all()
    assert found[-1] == pytest.approx(sum(m.found for m in matches) / sum(m.lesions for m in matches))


def test_without_a_lesion_there_is_no_sensitivity():
    empty = np.zeros((4, 4, 4), np.float32)
    table = detection_table([match_lesions(empty, empty)])
    assert np.isnan(sensitivity_at(table, table.once(), false_per_case=1)).all()
    assert np.isnan(froc_curve(table, table.once())[1]).all()
