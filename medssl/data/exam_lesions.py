"""Lesions of an exam on another grid, none of which may vanish between its slices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medssl.data.grids import Grid, resample

# Voxels that touch by a face, an edge or a corner belong to one lesion
_TOUCHING = ndimage.generate_binary_structure(3, 3)


def lesions_on_grid(lesions: NDArray[np.bool_], native: Grid, target: Grid) -> tuple[NDArray[np.uint8], int]:
    """Bring lesions on another grid: every voxel takes the value of the nearest one of theirs.

    A lesion that no voxel has as its nearest, because it is thinner than the slices are apart, is put on the voxels
    that are nearest to its own.

    Args:
        lesions: Where they are (X, Y, Z) on the native grid.
        native: Their grid.
        target: The grid that is wanted.

    Returns:
        1 inside lesions on the target grid, and how many of them would have vanished.
    """
    components, count = ndimage.label(lesions, structure=_TOUCHING)
    moved = np.rint(resample(components, native.affine, target, nearest=True)).astype(np.int64)
    lost = np.setdiff1d(np.arange(1, count + 1), moved)
    thin = 0
    for number in lost:
        places = _nearest(np.argwhere(components == number), native, target)
        moved[tuple(places.T)] = number
        thin += int(len(places) > 0)
    return (moved > 0).astype(np.uint8), thin


def _nearest(places: NDArray[np.int64], native: Grid, target: Grid) -> NDArray[np.int64]:
    """Return the voxels of a grid that are nearest to those of another, without those beside it."""
    onto = np.linalg.inv(target.affine) @ native.affine
    found = np.rint(places @ onto[:3, :3].T + onto[:3, 3]).astype(np.int64)
    inside = ((found >= 0) & (found < target.shape)).all(axis=1)
    return found[inside]
