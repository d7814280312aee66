"""Matching of candidates and lesions: the cases that decide, and equality with picai_eval."""

import contextlib
import io

import numpy as np
import pytest
from metrics.random_lesions import cases

from medssl.metrics.lesion_matching import match_lesions


@pytest.fixture(scope="module")
def picai():
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a banner when it is imported
        return pytest.importorskip("picai_eval.eval")


def _same(picai, detection, reference):
    ours = match_lesions(detection, reference)
    entries, confidence, _, _ = picai.evaluate_case(detection, reference)
    mine, theirs = sorted(ours.entries), sorted((int(a), float(b), float(c)) for a, b, c in entries)
    assert [entry[:2] for entry in mine] == [entry[:2] for entry in theirs]
    # It adds 1 to the overlap and takes it away again, which rounds
    assert [entry[2] for entry in mine] == pytest.approx([entry[2] for entry in theirs], abs=1e-15)
    assert ours.confidence == float(confidence)
    return ours


def test_two_hundred_random_cases_equal_picai_eval(picai):
    outcomes = {outcome: 0 for outcome in ("hit", "false", "second")}
    missed = 0
    for detection, reference in cases(200):
        match = _same(picai, detection, reference)
        missed += match.missed
        for candidate in match.candidates:
            outcomes[candidate.outcome] += 1
    assert min(*outcomes.values(), missed) >= 5  # every kind occurred, so the comparison says something


def _blocks(*boxes, shape=(30, 10, 10)):
    """Return a volume of blocks along the first axis: (start, stop, value)."""
    volume = np.zeros(shape, np.float32)
    for start, stop, value in boxes:
        volume[start:stop] = value
    return volume


@pytest.mark.parametrize(
    ("detection", "reference", "found", "false"),
    [
        (_blocks(), _blocks(), 0, 0),
        (_blocks(), _blocks((0, 5, 1)), 0, 0),
        (_blocks((0, 5, 0.7)), _blocks(), 0, 1),
        (_blocks((0, 5, 0.7)), _blocks((0, 5, 1)), 1, 0),
        (_blocks((10, 15, 0.7)), _blocks((0, 5, 1)), 0, 1),
        (_blocks((0, 1, 0.7)), _blocks((0, 10, 1)), 1, 0),  # overlap of exactly 0.10
        (_blocks((0, 1, 0.7)), _blocks((0, 11, 1)), 0, 1),  # just below
        (_blocks((0, 4, 0.7), (5, 9, 0.9)), _blocks((0, 9, 1)), 1, 0),  # the second counts for nothing
        (_blocks((0, 20, 0.7)), _blocks((0, 5, 1), (10, 15, 1)), 1, 0),  # one candidate, two lesions
        (_blocks((0, 5, 0.5), (10, 15, 0.5)), _blocks((0, 5, 1), (10, 15, 2)), 2, 0),
    ],
)
def test_cases_that_decide(picai, detection, reference, found, false):
    match = _same(picai, detection, reference.astype(np.int32))
    assert (match.found, sum(each.outcome == "false" for each in match.candidates)) == (found, false)
    assert match.missed == match.lesions - found == len(match.missed_centres)


def test_missed_lesions_are_told_by_their_middle_the_largest_first():
    reference = _blocks((0, 3, 1), (10, 11, 1), (20, 25, 1))
    match = match_lesions(_blocks((0, 3, 0.5)), reference)
    assert match.missed_centres == ((22.0, 4.5, 4.5), (10.0, 4.5, 4.5))


def test_more_matches_go_before_more_overlap(picai):
    # The wide candidate overlaps the first lesion most, but only it reaches the second
    detection = _blocks((0, 3, 0.4), (4, 20, 0.8))
    reference = _blocks((0, 12, 1), (14, 20, 1)).astype(np.int32)
    match = _same(picai, detection, reference)
    assert match.found == 2


def test_grades_that_touch_are_one_lesion(picai):
    reference = _blocks((0, 3, 2), (3, 6, 4)).astype(np.int32)
    assert _same(picai, _blocks((0, 6, 0.9)), reference).lesions == 1


def test_corners_connect():
    detection = np.zeros((4, 4, 4), np.float32)
    detection[0, 0, 0] = detection[1, 1, 1] = 0.5
    assert len(match_lesions(detection, detection > 0).candidates) == 1


def test_candidates_say_where_they_are():
    match = match_lesions(_blocks((0, 3, 0.4), (10, 13, 0.8)), _blocks((0, 3, 1)))
    assert [(each.confidence, each.outcome) for each in match.candidates] == [
        (pytest.approx(0.8), "false"),
        (pytest.approx(0.4), "hit"),
    ]
    assert match.candidates[0].centre == (11.0, 4.5, 4.5)
    assert match.candidates[1].to_json()["voxels"] == 300


def test_other_shapes_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        match_lesions(np.zeros((2, 2, 2), np.float32), np.zeros((2, 2, 3)))
