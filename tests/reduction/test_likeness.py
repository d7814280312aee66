"""Likeness of scans: one patient twice stands out among people who share their anatomy; different people do not."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from medssl.reduction.likeness import likeness, outline, stands_out, step_for, usual_distances

_ANATOMY = gaussian_filter(np.random.default_rng(0).normal(size=(40, 40, 40)), 6)
_ANATOMY /= _ANATOMY.std()


def person(seed: int) -> np.ndarray:
    """Grey values: anatomy that all share, and details of one's own."""
    details = gaussian_filter(np.random.default_rng(seed).normal(size=_ANATOMY.shape), 1.5)
    return 3 * _ANATOMY + details / details.std()


def grey(values: np.ndarray) -> np.ndarray:
    scaled = (values - values.min()) / (values.max() - values.min())
    return (scaled * 255).astype(np.uint8)


def outlines(*scans: np.ndarray) -> list:
    return [outline(grey(each), spacing=(1.0, 1.0, 1.0), step=1.0) for each in scans]


def test_a_scan_is_like_itself_wherever_the_patient_lies() -> None:
    moved = shift(person(1), (3, -2, 4), order=0, mode="nearest")
    first, second, other = outlines(person(1), moved, person(2))
    found = likeness([first], [first, second, other])[0]
    assert found[0] == pytest.approx(1.0, abs=2e-3)
    assert found[1] > 0.6 > 0.5 > found[2]


def test_the_correlation_is_the_highest_of_all_circular_shifts() -> None:
    first, second = (each.astype(np.float64) for each in outlines(person(3), shift(person(3), (2, 0, -1), order=0)))
    shifts = {move: (first * np.roll(second, move, axis=(0, 1, 2))).sum() for move in np.ndindex(5, 5, 5)}
    around = {tuple(np.subtract(move, 3)): 0.0 for move in np.ndindex(7, 7, 7)} | shifts
    plain = max((first * np.roll(second, move, axis=(0, 1, 2))).sum() for move in around)
    assert likeness([first.astype(np.float16)], [second.astype(np.float16)])[0, 0] == pytest.approx(plain, abs=1e-4)


def judged(first: list, second: list, patients: tuple[str | None, ...] | None = None) -> np.ndarray:
    both = [*first, *second]
    usual = usual_distances(both, patients or [None] * len(both))
    found = likeness(first, second)
    return stands_out(found, usual[: len(first)], usual[len(first) :], scans=len(both))


def test_the_patient_scanned_twice_stands_out_and_nobody_else() -> None:
    noise = 0.2 * np.random.default_rng(1).normal(size=_ANATOMY.shape)
    again = shift(person(5), (2, 1, -2), order=1, mode="nearest") + noise
    second = outlines(*(person(seed) for seed in range(10)))
    assert np.argwhere(judged(outlines(again, person(20)), second)).tolist() == [[0, 5]]


def test_other_scans_of_the_named_patient_do_not_hide_him() -> None:
    """Twenty frames of one patient in training, a twenty-first in test."""
    frames = [person(5) + 0.1 * np.random.default_rng(frame).normal(size=_ANATOMY.shape) for frame in range(21)]
    others = [person(seed) for seed in range(30, 40)]
    patients = ("a", *["a"] * 20, *[f"p{number}" for number in range(10)])
    found = judged(outlines(frames[0]), outlines(*frames[1:], *others), patients)[0]
    assert found[:20].all()
    assert not found[20:].any()


@pytest.mark.parametrize(("scans", "expected"), [(8, [True, False, False]), (9, [True, True, False])])
def test_the_rule_on_either_side_of_its_limits(scans: int, expected: list[bool]) -> None:
    """0.9 of likeness with few scans; 0.4 of the smaller usual distance with 9 and more."""
    found = np.array([[0.95, 0.81, 0.79]])
    assert stands_out(found, np.array([0.5]), np.array([0.9, 0.9, 0.5]), scans=scans).tolist() == [expected]


def test_a_scan_that_shows_nothing_is_like_none() -> None:
    empty = outline(np.zeros((5, 6, 7), np.uint8), spacing=(3.0, 1.0, 1.0), step=1.0)
    assert likeness([empty], outlines(person(1)))[0, 0] == 0


def test_spacing_is_taken_into_account() -> None:
    coarse = person(6).reshape(20, 2, 40, 40).mean(axis=1)  # slices twice as thick
    thick = outline(grey(coarse), spacing=(2.0, 1.0, 1.0), step=2.0)
    fine = outline(grey(person(6)), spacing=(1.0, 1.0, 1.0), step=2.0)
    assert likeness([thick], [fine])[0, 0] > 0.9


def test_long_and_thin_scans_are_cut_not_refused() -> None:
    long = outline(
        grey(np.random.default_rng(2).normal(size=(120, 8, 1))), spacing=(1.0, 1.0, 9.0), step=step_for([40.0])
    )
    assert long.shape == (48, 48, 48)
    assert float(np.linalg.norm(long.astype(np.float32))) == pytest.approx(1.0, abs=1e-2)
