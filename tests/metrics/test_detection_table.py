"""The table of a set of cases, and sums over equal confidences."""

import numpy as np

from medssl.metrics.detection_table import detection_table, ranked_sums
from medssl.metrics.lesion_matching import Candidate, LesionMatch


def _match(lesions, *candidates):
    listed = tuple(
        Candidate(confidence=confidence, voxels=1, outcome=outcome, overlap=0.5, centre=(0, 0, 0))
        for confidence, outcome in candidates
    )
    return LesionMatch(candidates=listed, lesions=lesions, confidence=max([c for c, _ in candidates], default=0.0))


def test_hits_false_candidates_and_missed_lesions_become_rows():
    table = detection_table([_match(2, (0.9, "hit"), (0.8, "second"), (0.2, "false")), _match(0), _match(1)])
    assert table.positive.tolist() == [True, False, True]
    assert table.case_confidence.tolist() == [0.9, 0.0, 0.0]
    rows = list(zip(table.case.tolist(), table.lesion.tolist(), table.confidence.tolist(), strict=True))
    assert rows == [(0, True, 0.9), (0, False, 0.2), (0, True, 0.0), (2, True, 0.0)]


def test_no_case_has_no_rows():
    assert detection_table([]).cases == 0
    assert detection_table([_match(0)]).case.tolist() == []


def test_rows_of_equal_key_are_summed_from_the_highest():
    keys, (sums,) = ranked_sums(np.array([0.2, 0.9, 0.2]), np.array([[1.0, 2, 3], [0, 1, 0]]))
    assert keys.tolist() == [0.9, 0.2]
    assert sums.tolist() == [[2, 4], [1, 0]]
    assert ranked_sums(np.array([]), np.zeros((2, 0)))[1][0].shape == (2, 0)
