"""Grids in space: the lattice of a file, a lattice to work on, and images brought from one to the other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Matrix = NDArray[np.float64]
Shape3 = tuple[int, int, int]

# Spacings this close to the wanted one are kept: voxels then stay voxels, and nothing is blurred for a rounded header
_SAME_SPACING = 1e-3
# Largest distance, in voxels, at which one grid counts as lying on the voxels of the other
_WHOLE_VOXEL = 1e-3


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """Voxel lattice: `shape` in voxels and the 4 x 4 `affine` from voxel index to mm."""

    shape: Shape3
    affine: Matrix

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size along I, J, K."""
        x, y, z = np.sqrt((self.affine[:3, :3] ** 2).sum(axis=0)).tolist()
        return x, y, z


def working_grid(
    native: Grid, *, spacing_mm: Sequence[float], shape: Sequence[int], centre_mm: Sequence[float] | None = None
) -> Grid:
    """Return a grid of `shape` voxels of `spacing_mm` along the axes of `native`, turned nearest to R, A, S.

    Along an axis whose spacing is the wanted one already, voxels of the new grid lie on voxels of the old one.

    Args:
        native: Grid that gives the directions and, without `centre_mm`, the centre.
        spacing_mm: Voxel size along the turned axes.
        shape: Voxels along the turned axes; may reach beyond the native grid.
        centre_mm: What to cut round, in RAS mm.
    """
    orientation = nib.io_orientation(native.affine)
    turned = native.affine @ nib.orientations.inv_ornt_aff(orientation, native.shape)
    size = np.empty(3)
    size[orientation[:, 0].astype(int)] = native.shape
    stored = Grid(shape=native.shape, affine=turned).spacing_mm
    ratio = np.array(
        [
            1.0 if abs(wanted / old - 1) < _SAME_SPACING else wanted / old
            for wanted, old in zip(spacing_mm, stored, strict=True)
        ]
    )
    full = turned @ nib.affines.from_matvec(np.diag(ratio), (ratio - 1) / 2)  # the outer faces coincide
    extent = np.maximum(np.rint(size / ratio), 1)
    wanted_shape = np.array(shape)
    if centre_mm is None:
        start = np.floor((extent - wanted_shape) / 2)
    else:
        centre = np.linalg.solve(full, np.append(np.asarray(centre_mm, dtype=np.float64), 1.0))[:3]
        start = np.rint(centre - (wanted_shape - 1) / 2)
    affine = full @ nib.affines.from_matvec(np.eye(3), start)
    x, y, z = (int(each) for each in shape)
    return Grid(shape=(x, y, z), affine=affine)


def resample(voxels: NDArray[Any], source: Matrix, target: Grid, *, nearest: bool = False) -> NDArray[np.float32]:
    """Bring voxels (X, Y, Z) to another grid; beyond the outer faces of the source everything is 0.

    Args:
        voxels: Image, or label map with `nearest`.
        source: Affine of the image.
        target: Where to.
        nearest: Take the nearest voxel instead of interpolating linearly.
    """
    matrix = _index_map(source, target)
    moved = ndimage.affine_transform(
        voxels.astype(np.float32, copy=False),
        matrix[:3, :3],
        matrix[:3, 3],
        output_shape=target.shape,
        order=0 if nearest else 1,
        mode="nearest",  # half a voxel beyond the outermost centres still belongs to them
        prefilter=False,
    )
    moved[~_inside(matrix, voxels.shape, target.shape)] = 0
    return moved


def covered(shape: Sequence[int], source: Matrix, target: Grid) -> NDArray[np.bool_]:
    """Tell for each voxel of the target whether its centre lies within the outer faces of a source grid."""
    return _inside(_index_map(source, target), shape, target.shape)


def _index_map(source: Matrix, target: Grid) -> Matrix:
    """Return the 4 x 4 matrix from target index to source index; whole where it is whole but for rounding."""
    matrix: Matrix = np.linalg.solve(source, target.affine).astype(np.float64)
    whole: Matrix = np.rint(matrix)
    corners = np.array([[*corner, 1] for corner in itertools.product(*((0, size - 1) for size in target.shape))])
    return whole if np.abs(corners @ (matrix - whole).T)[:, :3].max() < _WHOLE_VOXEL else matrix


def _inside(matrix: Matrix, shape: Sequence[int], target: Shape3) -> NDArray[np.bool_]:
    inside = np.ones(target, dtype=bool)
    axes = [np.arange(size) for size in target]
    for axis, size in enumerate(shape):
        x, y, z = (weight * steps for weight, steps in zip(matrix[axis, :3], axes, strict=True))
        position = x[:, None, None] + y[:, None] + z + matrix[axis, 3]
        inside &= (position >= -0.5 - _WHOLE_VOXEL) & (position <= size - 0.5 + _WHOLE_VOXEL)
    return inside
