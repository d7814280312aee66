"""Grids in space, and the way from the grid that a network works on back to the grid of the file."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medssl.core.errors import GeometryError
from medssl.data.grids import Grid, Matrix, Shape3

_WHOLE_VOXEL = 1e-4
"""Largest distance, in voxels, at which two grids count as lying on the same voxels."""


@dataclass(frozen=True, kw_only=True)
class Reindex:
    """Step back by index alone: target axis `axes[j]` is source axis j, flipped or not, then cut or zero-padded.

    Attributes:
        axes: Target axis of each source axis.
        flips: Whether each source axis runs the other way.
        offset: Source index of target voxel 0, per target axis, after flipping.
        shape: Target shape.
    """

    axes: Shape3
    flips: tuple[bool, bool, bool]
    offset: Shape3
    shape: Shape3


@dataclass(frozen=True, kw_only=True, eq=False)
class Resample:
    """Step back by linear interpolation: `matrix` maps target indices to source indices, outside is the border."""

    matrix: Matrix
    shape: Shape3


Step = Reindex | Resample


def steps_back(grids: Sequence[Grid]) -> tuple[Step, ...]:
    """Return the steps from the last grid to the first, as preprocessing made them from the first to the last.

    Grids that do not change make no step. Orientation, flips, crops and padding become index steps, which are exact;
    everything else is one linear interpolation.

    Args:
        grids: Grid of the file, then the grid after each preprocessing transform.

    Raises:
        GeometryError: If an affine cannot be inverted, or more than one step would interpolate.
    """
    steps = [step for before, after in itertools.pairwise(grids) if (step := _step(before, after)) is not None]
    if sum(isinstance(step, Resample) for step in steps) > 1:
        message = (
            "preprocessing interpolates more than once. Expected at most one of Spacingd, Resized or another "
            "resampling transform. Join them into one Spacingd."
        )
        raise GeometryError(message)
    return tuple(reversed(steps))


def _step(before: Grid, after: Grid) -> Step | None:
    if before.shape == after.shape and np.array_equal(before.affine, after.affine):
        return None
    try:
        matrix: Matrix = np.linalg.solve(after.affine, before.affine).astype(np.float64)
    except np.linalg.LinAlgError as error:
        message = f"affine cannot be inverted: {after.affine.tolist()}. Correct the header of the image."
        raise GeometryError(message) from error
    whole = np.rint(matrix)
    linear = np.abs(whole[:3, :3])
    is_permutation = bool((linear.sum(0) == 1).all() and (linear.sum(1) == 1).all() and linear.max() == 1)
    if not is_permutation or _largest_shift(matrix - whole, before.shape) > _WHOLE_VOXEL:
        return Resample(matrix=matrix, shape=before.shape)
    return _reindex(whole, before.shape, after.shape)


def _largest_shift(difference: Matrix, shape: Shape3) -> float:
    corners = np.array([[*corner, 1] for corner in itertools.product(*((0, size - 1) for size in shape))])
    return float(np.abs(corners @ difference.T)[:, :3].max())


def _reindex(whole: Matrix, target: Shape3, source: Shape3) -> Reindex | None:
    axes = [int(np.flatnonzero(whole[j, :3])[0]) for j in range(3)]
    flips = [bool(whole[j, axes[j]] < 0) for j in range(3)]
    offset = [0, 0, 0]
    for j in range(3):
        shift = int(whole[j, 3])
        offset[axes[j]] = source[j] - 1 - shift if flips[j] else shift
    if axes == [0, 1, 2] and not any(flips) and offset == [0, 0, 0] and source == target:
        return None
    return Reindex(
        axes=(axes[0], axes[1], axes[2]),
        flips=(flips[0], flips[1], flips[2]),
        offset=(offset[0], offset[1], offset[2]),
        shape=target,
    )
