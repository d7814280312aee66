"""Distances between the surfaces of two masks: HD95 and the normalised surface Dice, in mm.

Only the surface points are kept, so memory is about three bytes for each voxel of the cropped masks. MONAI's own
functions hold several float32 volumes of that size; they define the result here, and the tests compare with them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Mask = NDArray[np.bool_]
Spacing = tuple[float, float, float]

# Spacings are float32 in NIfTI headers: a surface that lies exactly one voxel away must count as within one voxel.
_ROUNDING_MM = 1e-5


@lru_cache(maxsize=256)
def surfel_areas(spacing_mm: Spacing) -> NDArray[np.float64]:
    """Return the surface area in mm² that each of the 256 codes of a 2 x 2 x 2 neighbourhood stands for.

    The table is MONAI's (marching cubes, after DeepMind's surface-distance). Its first call imports MONAI, which
    takes seconds: hand the table to worker processes instead of computing it there.

    Args:
        spacing_mm: Voxel sizes along the array axes.
    """
    from monai.metrics.utils import get_code_to_measure_table

    areas, _ = get_code_to_measure_table(spacing_mm)
    table: NDArray[np.float64] = areas.numpy().astype(np.float64)
    table.setflags(write=False)
    return table


def hausdorff95(reference: Mask, prediction: Mask, *, spacing_mm: Spacing) -> float:
    """Return the 95th percentile of the Hausdorff distance of two masks (X, Y, Z), in mm.

    Boundary voxels are those with at least one of their six neighbours outside the mask; beyond the array is outside.
    For each direction the distances from every boundary voxel of one mask to the nearest one of the other are taken,
    centre to centre, and their 95th percentile (linear between ranks); the result is the larger of the two. This is
    what `monai.metrics.compute_hausdorff_distance(percentile=95)` computes. DeepMind's surface-distance differs: it
    measures between voxel corners and weighs by area.

    Args:
        reference: Non-empty mask.
        prediction: Non-empty mask on the same grid.
        spacing_mm: Voxel sizes along the array axes.

    Raises:
        ValueError: If a mask is empty: the distance is then undefined.
    """
    _refuse_empty(reference, prediction)
    points = [_boundary_voxels(mask) * np.asarray(spacing_mm) for mask in (reference, prediction)]
    forth, back = _distances(points[0], points[1]), _distances(points[1], points[0])
    return float(max(np.percentile(forth, 95), np.percentile(back, 95)))


def surface_dice(
    reference: Mask,
    prediction: Mask,
    *,
    spacing_mm: Spacing,
    tolerance_mm: float,
    areas: NDArray[np.float64] | None = None,
) -> float:
    """Return the normalised surface Dice of two masks (X, Y, Z): the share of surface within `tolerance_mm`.

    Surface elements sit at the corners between 2 x 2 x 2 voxels and carry their area in mm². The result is the area of
    both surfaces that lies at most `tolerance_mm` from the other surface, divided by the area of both. This is what
    `monai.metrics.compute_surface_dice(use_subvoxels=True)` and DeepMind's surface-distance compute.

    Args:
        reference: Non-empty mask.
        prediction: Non-empty mask on the same grid.
        spacing_mm: Voxel sizes along the array axes.
        tolerance_mm: Distance that counts as agreement.
        areas: `surfel_areas(spacing_mm)`, if it is at hand.

    Raises:
        ValueError: If a mask is empty.

    Note:
        Source: Nikolov et al., "Clinically applicable segmentation of head and neck anatomy", JMIR 2021. The tolerance
        is widened by 1e-5 mm against rounding of the spacing.
    """
    _refuse_empty(reference, prediction)
    table = surfel_areas(spacing_mm) if areas is None else areas
    points, weights = zip(*(_surfels(mask, table) for mask in (reference, prediction)), strict=True)
    scaled = [corners * np.asarray(spacing_mm) for corners in points]
    limit = tolerance_mm + _ROUNDING_MM
    forth = _distances(scaled[0], scaled[1], limit=limit) <= limit
    back = _distances(scaled[1], scaled[0], limit=limit) <= limit
    close = weights[0][forth].sum() + weights[1][back].sum()
    return float(close / (weights[0].sum() + weights[1].sum()))


def _refuse_empty(reference: Mask, prediction: Mask) -> None:
    if not (reference.any() and prediction.any()):
        message = "a surface distance needs two non-empty masks; it is undefined for a missed or false structure."
        raise ValueError(message)


def _boundary_voxels(mask: Mask) -> NDArray[np.intp]:
    padded = np.pad(mask, 1)
    inside = mask.copy()
    for axis in range(mask.ndim):
        for start in (0, 2):
            window = [slice(1, -1)] * mask.ndim
            window[axis] = slice(start, start + mask.shape[axis])
            inside &= padded[tuple(window)]
    return np.argwhere(mask & ~inside)


def _surfels(mask: Mask, areas: NDArray[np.float64]) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the corner positions (n, 3), in voxels, and the areas (n,) of all surface elements of a mask."""
    padded = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([size + 1 for size in mask.shape], dtype=np.uint8)
    # The weight halves from neighbour to neighbour, last axis fastest: the order that the table is written in.
    for position, offset in enumerate(np.ndindex(2, 2, 2)):
        window = tuple(slice(start, start + size) for start, size in zip(offset, codes.shape, strict=True))
        codes |= padded[window] << np.uint8(7 - position)
    surface = (codes != 0) & (codes != 255)
    return np.argwhere(surface), areas[codes[surface]]


def _distances(start: NDArray[np.float64], end: NDArray[np.float64], *, limit: float = np.inf) -> NDArray[np.float64]:
    """Return the distance from each start point to the nearest end point; infinite from `limit` on."""
    tree = cKDTree(end, leafsize=32, balanced_tree=False, compact_nodes=False)
    distances: NDArray[np.float64] = tree.query(start, distance_upper_bound=limit)[0]
    return distances
