"""The four states of a structure, the policy, and cropping that changes nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medssl.metrics import METRICS, POLICY, STATES, score_structure, score_structures
from medssl.metrics.structures import label_boxes

OPTIONS = {"spacing_mm": (1.0, 1.0, 2.0), "tolerance_mm": 1.0}
SOLID, EMPTY = np.ones((5, 5, 5), bool), np.zeros((5, 5, 5), bool)


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        (SOLID, SOLID, ("both", 1.0, 0.0, 1.0, 0.0, 0.0)),
        (SOLID, EMPTY, ("missed", 0.0, None, 0.0, -0.25, -100.0)),
        (EMPTY, SOLID, ("false", 0.0, None, 0.0, 0.25, None)),
        (EMPTY, EMPTY, ("absent", None, None, None, None, None)),
    ],
)
def test_each_of_the_four_states_follows_the_policy(reference, prediction, expected):
    score = score_structure(reference, prediction, **OPTIONS).to_json()
    assert (score["state"], *(score[metric] for metric in METRICS)) == expected


def test_policy_names_every_state():
    assert all(f"{state} (" in POLICY for state in STATES)


label_maps = arrays(np.uint8, (6, 7, 5), elements=st.integers(0, 3))


@settings(max_examples=25, deadline=None)
@given(reference=label_maps, prediction=label_maps)
def test_cropping_changes_no_value(reference, prediction):
    classes = {"a": (1, 1), "b": (2, 3)}
    scores = score_structures(reference, prediction, classes=classes, **OPTIONS)
    for name, (value, predicted) in classes.items():
        wide = [np.pad(labels == each, 3) for labels, each in ((reference, value), (prediction, predicted))]
        assert scores[name].to_json() == pytest.approx(score_structure(*wide, **OPTIONS).to_json())


def test_memory_order_does_not_matter():
    rng = np.random.default_rng(0)
    reference, prediction = rng.integers(0, 3, (2, 8, 9, 7)).astype(np.uint8)
    classes = {"a": (1, 1), "b": (2, 2)}
    fortran = [np.asfortranarray(each) for each in (reference, prediction)]
    assert score_structures(*fortran, classes=classes, **OPTIONS) == score_structures(
        reference, prediction, classes=classes, **OPTIONS
    )


def test_boxes_are_the_same_in_both_memory_orders():
    labels = np.zeros((4, 5, 6), np.uint16)
    labels[1:3, 2:4, 5], labels[0, 0, 0] = 700, 2
    expected = {2: (slice(0, 1), slice(0, 1), slice(0, 1)), 700: (slice(1, 3), slice(2, 4), slice(5, 6))}
    assert label_boxes(labels) == label_boxes(np.asfortranarray(labels)) == expected


def test_label_maps_of_different_shapes_are_refused():
    with pytest.raises(ValueError, match="one shape"):
        score_structures(np.zeros((2, 2, 2), int), np.zeros((2, 2, 3), int), classes={}, **OPTIONS)
