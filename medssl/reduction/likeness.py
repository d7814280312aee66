"""How alike two scans are: the correlation of their coarse details, wherever the patient lay.

Hashes of slices find files of one scan. They do not find the same patient scanned twice, and they take all brains
without skull for one another. What tells people apart is detail, so the smooth part, which all share, is taken off.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from medssl.reduction.hashing import Grey

Outline = npt.NDArray[np.float16]

# Fraction of the usual distance below which two scans are of one patient. Repeated scans of one brain lie at 0.11 to
# 0.31, two phases of one heart below 0.20, different people at 0.52 and above (docs/results/leaks.md)
UNUSUAL = 0.4
# With fewer other scans than this there is no usual distance; then likeness itself decides
FEW_SCANS = 8
VERY_ALIKE = 0.9

_SIDE = 48
_FILLED = 40
_DETAIL = 2.5
_OTHERS = 32
_CHUNK = 128


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
    smooth = ndimage.gaussian_filter(grey.astype(np.float32), np.maximum(0.5 / scale - 0.3, 0.0))
    coarse = ndimage.zoom(smooth, np.maximum(scale, 1.01 / np.array(grey.shape)), order=1)
    coarse -= ndimage.gaussian_filter(coarse, _DETAIL)
    kept = tuple(slice(max(0, (size - _SIDE) // 2), max(0, (size - _SIDE) // 2) + _SIDE) for size in coarse.shape)
    padded = np.zeros((_SIDE,) * 3, dtype=np.float32)
    padded[tuple(slice(0, size) for size in coarse[kept].shape)] = coarse[kept]
    norm = float(np.linalg.norm(padded))
    return (padded / norm if norm > 0 else padded).astype(np.float16)


def likeness(first: Sequence[Outline], second: Sequence[Outline]) -> npt.NDArray[np.float64]:
    """Return the highest correlation over all shifts, (len(first), len(second)); at most 1."""
    found = np.zeros((len(first), len(second)))
    for rows, columns in itertools.product(_chunks(len(first)), _chunks(len(second))):
        one, other = (_spectra(outlines[part]) for outlines, part in ((first, rows), (second, columns)))
        for row, spectrum in enumerate(one, rows.start):
            for column, conjugate in enumerate(np.conj(other), columns.start):
                found[row, column] = fft.irfftn(spectrum * conjugate, s=(_SIDE,) * 3).max()
    return found


def stands_out(
    found: npt.NDArray[np.float64], first: Sequence[Outline], second: Sequence[Outline]
) -> npt.NDArray[np.bool_]:
    """Tell which pairs are far more alike than each scan is to the others.

    Args:
        found: Likeness of each pair, from `likeness(first, second)`.
        first: Outlines of the rows.
        second: Outlines of the columns, none of which is among the rows.
    """
    if len(first) + len(second) <= FEW_SCANS:
        return found >= VERY_ALIKE
    usual = usual_distances([*first, *second])
    return (1.0 - found) <= UNUSUAL * np.minimum(usual[: len(first), None], usual[None, len(first) :])


def usual_distances(outlines: Sequence[Outline]) -> npt.NDArray[np.float64]:
    """Return how far each scan usually is from the others: the median of 1 - likeness, of which 32 are asked."""
    return np.array([_usual_distance(index, outlines) for index in range(len(outlines))])


def _usual_distance(index: int, outlines: Sequence[Outline]) -> float:
    others = [number for number in range(len(outlines)) if number != index]
    asked = np.random.default_rng(index).permutation(others)[:_OTHERS]
    return float(np.median(1.0 - likeness([outlines[index]], [outlines[number] for number in asked])))


def _spectra(outlines: Sequence[Outline]) -> npt.NDArray[np.complex64]:
    return np.stack([fft.rfftn(each.astype(np.float32)) for each in outlines])


def _chunks(count: int) -> list[slice]:
    return [slice(start, min(start + _CHUNK, count)) for start in range(0, count, _CHUNK)]
