"""Likeness of scans: one patient twice stands out among people who share their anatomy; different people do not."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift, zoom

from medssl.reduction.likeness import likeness, outline, stands_out, step_for

_RNG = np.random.default_rng(0)
_ANATOMY = gaussian_filter(_RNG.normal(size=(40, 40, 40)), 6)
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


def test_the_correlation_equals_the_plain_one() -> None:
    """At the best shift, against a loop over all shifts in float64."""
    small = [np.pad(each.astype(np.float64), 0) for each in outlines(person(3), person(4))]
    plain = max(float((small[0] * np.roll(small[1], move, axis=(0, 1, 2))).sum()) for move in np.ndindex(4, 4, 4))
    whole = likeness(outlines(person(3)), outlines(person(4)))[0, 0]
    assert whole >= plain - 1e-3
    best = np.fft.irfftn(np.fft.rfftn(small[0]) * np.conj(np.fft.rfftn(small[1])), s=(48, 48, 48)).max()
    assert whole == pytest.approx(best, abs=1e-5)


def test_the_patient_scanned_twice_stands_out_and_nobody_else() -> None:
    again = shift(person(5), (2, 1, -2), order=1, mode="nearest") + 0.2 * _RNG.normal(size=_ANATOMY.shape)
    first = outlines(again, person(20))
    second = outlines(*(person(seed) for seed in range(10)))
    out = stands_out(likeness(first, second), first, second)
    assert np.argwhere(out).tolist() == [[0, 5]]


def test_among_few_scans_likeness_itself_decides() -> None:
    first, second = outlines(person(1)), outlines(person(1), person(2))
    assert stands_out(likeness(first, second), first, second).tolist() == [[True, False]]


def test_a_scan_that_shows_nothing_is_like_none() -> None:
    empty = outline(np.zeros((5, 6, 7), np.uint8), spacing=(3.0, 1.0, 1.0), step=1.0)
    assert likeness([empty], outlines(person(1)))[0, 0] == 0


def test_spacing_is_taken_into_account() -> None:
    coarse = zoom(person(6), (0.5, 1.0, 1.0), order=1)
    thick = outline(grey(coarse), spacing=(2.0, 1.0, 1.0), step=2.0)
    fine = outline(grey(person(6)), spacing=(1.0, 1.0, 1.0), step=2.0)
    assert likeness([thick], [fine])[0, 0] > 0.9


def test_long_and_thin_scans_are_cut_not_refused() -> None:
    long = outline(grey(_RNG.normal(size=(120, 8, 1))), spacing=(1.0, 1.0, 9.0), step=step_for([40.0]))
    assert long.shape == (48, 48, 48)
    assert float(np.linalg.norm(long.astype(np.float32))) == pytest.approx(1.0, abs=1e-2)
