"""Overlap and volume of one structure: Dice and the volume error, from voxel counts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_CUBIC_MM_PER_ML = 1000.0


def dice(reference: NDArray[np.bool_], prediction: NDArray[np.bool_]) -> float | None:
    """Return the Dice overlap of two masks (X, Y, Z), or None if both are empty.

    Args:
        reference: True inside the structure.
        prediction: True inside the predicted structure, on the same grid.
    """
    total = int(np.count_nonzero(reference)) + int(np.count_nonzero(prediction))
    if total == 0:
        return None
    return 2.0 * int(np.count_nonzero(reference & prediction)) / total


def volume_error_ml(reference_voxels: int, prediction_voxels: int, *, voxel_volume_mm3: float) -> float:
    """Return prediction minus reference in millilitres; positive means the prediction is too large."""
    return (prediction_voxels - reference_voxels) * voxel_volume_mm3 / _CUBIC_MM_PER_ML


def volume_error_percent(reference_voxels: int, prediction_voxels: int) -> float | None:
    """Return prediction minus reference in percent of the reference, or None if the reference is empty."""
    if reference_voxels == 0:
        return None
    return 100.0 * (prediction_voxels - reference_voxels) / reference_voxels
