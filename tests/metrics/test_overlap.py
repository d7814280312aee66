"""Dice and volume errors against hand-computed values and as properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medssl.metrics.overlap import dice, volume_error_ml, volume_error_percent

masks = arrays(bool, (4, 5, 3))


def test_dice_of_half_overlapping_bars():
    reference, prediction = np.zeros((6, 1, 1), bool), np.zeros((6, 1, 1), bool)
    reference[0:4], prediction[2:6] = True, True
    assert dice(reference, prediction) == 0.5


def test_dice_of_two_empty_masks_is_undefined():
    assert dice(np.zeros((2, 2, 2), bool), np.zeros((2, 2, 2), bool)) is None


@settings(max_examples=50, deadline=None)
@given(a=masks, b=masks, axis=st.integers(0, 2))
def test_dice_is_symmetric_and_does_not_change_when_both_are_flipped(a, b, axis):
    assert dice(a, b) == dice(b, a) == dice(np.flip(a, axis), np.flip(b, axis))


@settings(max_examples=20, deadline=None)
@given(a=masks)
def test_dice_with_itself_is_one_unless_empty(a):
    assert dice(a, a) == (1.0 if a.any() else None)


def test_volume_error_is_signed_and_in_millilitres():
    assert volume_error_ml(1000, 1500, voxel_volume_mm3=2.0) == pytest.approx(1.0)
    assert volume_error_ml(1500, 1000, voxel_volume_mm3=2.0) == pytest.approx(-1.0)


def test_volume_error_percent_of_an_empty_reference_is_undefined():
    assert volume_error_percent(200, 150) == pytest.approx(-25.0)
    assert volume_error_percent(0, 10) is None
