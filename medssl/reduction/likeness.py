"""How alike two scans are: the correlation of their coarse details, wherever the patient lay.

Hashes of slices find files of one scan. They do not find the same patient scanned twice, and they take all brains
without skull for one another. What tells people apart is detail, so the smooth part, which all share, is taken off.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from medssl.core.cores import usable_cores
from medssl.reduction.hashing import Grey

Outline = npt.NDArray[np.float16]

# Fraction of the usual distance below which two scans are of one patient. Repeated scans of one brain lie at 0.11 to
# 0.31, two phases of one heart at 0.20 and below; the nearest of different people at 0.51 (docs/results/leaks.md)
UNUSUAL = 0.4
# With fewer scans than this there is no usual distance; then likeness itself decides
FEW_SCANS = 9
VERY_ALIKE = 0.9

_SIDE = 48
_FILLED = 40
_MARGIN = 8
_DETAIL = 2.5
_OTHERS = 32
_CHUNK = 64


def step_for(extents_mm: Sequence[float]) -> float:
    """Return the voxel size in mm of outlines, one for all scans that are compared: the usual scan spans 40 voxels.

    Args:
        extents_mm: The longest side of each scan.
    """
    return float(np.median(extents_mm)) / _FILLED


def outline(grey: Grey, *, spacing: Sequence[float], step: float) -> Outline:
    """Return the coarse details of a scan (48, 48, 48), of norm 1, or zeros if it shows nothing.

    Args:
        grey: 8-bit values (Z, Y, X).
        spacing: Of its axes, in mm.
        step: From `step_for`; what lies beyond 48 of them is cut off evenly.
    """
    scale = np.asarray(spacing, dtype=np.float64) / step
    grey = _middle(grey, np.ceil((_SIDE + _MARGIN) / scale))  # before anything is computed of a whole body
    smooth = ndimage.gaussian_filter(grey.astype(np.float32), np.maximum(0.5 / scale - 0.3, 0.0))
    factors = np.maximum(scale, 1.01 / np.array(grey.shape))
    coarse = ndimage.zoom(smooth, factors, order=1, mode="nearest", grid_mode=True)
    coarse -= ndimage.gaussian_filter(coarse, _DETAIL)
    kept = _middle(coarse, (_SIDE,) * 3)
    padded = np.zeros((_SIDE,) * 3, dtype=np.float32)
    padded[tuple(slice(0, size) for size in kept.shape)] = kept
    norm = float(np.linalg.norm(padded))
    return (padded / norm if norm > 0 else padded).astype(np.float16)


def _middle(values: npt.NDArray[Any], sides: Iterable[float]) -> npt.NDArray[Any]:
    """Cut each axis evenly to at most so many voxels."""
    lengths = [min(size, int(side)) for size, side in zip(values.shape, sides, strict=True)]
    starts = [(size - length) // 2 for size, length in zip(values.shape, lengths, strict=True)]
    return values[tuple(slice(start, start + length) for start, length in zip(starts, lengths, strict=True))]


def likeness(first: Sequence[Outline], second: Sequence[Outline]) -> npt.NDArray[np.float64]:
    """Return the highest correlation over all circular shifts, (len(first), len(second)); at most 1.

    A pair takes about 2 ms of one core, whatever the size of the scans.
    """
    found = np.zeros((len(first), len(second)))
    for columns in _chunks(len(second)):
        conjugates = np.conj(_spectra(second[columns]))
        for row, spectrum in enumerate(map(_spectrum, first)):
            maps = fft.irfftn(spectrum * conjugates, s=(_SIDE,) * 3, axes=(1, 2, 3), workers=usable_cores())
            found[row, columns] = maps.max(axis=(1, 2, 3))
    return np.minimum(found, 1.0)


def usual_distances(outlines: Sequence[Outline], patients: Sequence[str | None]) -> npt.NDArray[np.float64]:
    """Return how far each scan usually is from those of other patients: the median of 1 - likeness.

    32 others are asked, drawn by a fixed seed. Scans of an unnamed patient count as of another one, so the median of
    one who makes up half of the data set without being named is too small.

    Args:
        outlines: All scans.
        patients: The patient of each, or None.
    """
    return np.array([_usual_distance(index, outlines, patients) for index in range(len(outlines))])


def relative_distances(
    found: npt.NDArray[np.float64], first: npt.NDArray[np.float64], second: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Return 1 - likeness of each pair as a share of what is usual of the scan with the smaller usual distance.

    Args:
        found: Likeness (rows, columns).
        first: Usual distance of the rows.
        second: Usual distance of the columns.
    """
    return (1.0 - found) / np.maximum(np.minimum(first[:, None], second[None, :]), 1e-9)


def stands_out(
    found: npt.NDArray[np.float64],
    first: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
    *,
    scans: int,
) -> npt.NDArray[np.bool_]:
    """Tell which pairs are far more alike than each scan is to those of other patients.

    Args:
        found: Likeness (rows, columns).
        first: Usual distance of the rows.
        second: Usual distance of the columns.
        scans: How many scans the usual distances are of; with fewer than 9 a likeness of 0.9 decides.
    """
    if scans < FEW_SCANS:
        return found >= VERY_ALIKE
    return relative_distances(found, first, second) <= UNUSUAL


def _usual_distance(index: int, outlines: Sequence[Outline], patients: Sequence[str | None]) -> float:
    others = [
        number
        for number, patient in enumerate(patients)
        if number != index and (patient is None or patient != patients[index])
    ]
    asked = np.random.default_rng(index).permutation(others)[:_OTHERS]
    return (
        float(np.median(1.0 - likeness([outlines[index]], [outlines[number] for number in asked]))) if others else 1.0
    )


def _spectrum(each: Outline) -> npt.NDArray[np.complex64]:
    spectrum: npt.NDArray[np.complex64] = fft.rfftn(each.astype(np.float32))
    return spectrum


def _spectra(outlines: Sequence[Outline]) -> npt.NDArray[np.complex64]:
    return np.stack([_spectrum(each) for each in outlines])


def _chunks(count: int) -> list[slice]:
    return [slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
