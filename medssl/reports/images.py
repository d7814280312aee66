"""Volumes as a picture needs them: axes along the patient, spacing in mm, nothing resampled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from numpy.typing import NDArray

from medssl.core.errors import GeometryError
from medssl.data import volumes

_TOLERANCE_MM = 0.01


@dataclass(frozen=True)
class Volume:
    """Voxels (X, Y, Z), ordered so that x grows to the patient's right, y to the front, z to the head.

    Attributes:
        values: One channel, in the file's own type.
        spacing_mm: Voxel size along x, y, z.
        affine: Voxel indices to world coordinates (RAS), 4 x 4, in mm.
    """

    values: NDArray[Any]
    spacing_mm: tuple[float, float, float]
    affine: NDArray[np.float64]


def read_volume(path: Path) -> Volume:
    """Read a volume and turn its axes to the patient's (nearest axes; oblique volumes are not resampled).

    Raises:
        MedsslError: If it is no volume that `medssl.data.volumes` reads, or does not fit into memory.
    """
    read = volumes.read_volume(path, finite=False)
    canonical = nib.as_closest_canonical(nib.Nifti1Image(read.voxels, read.header.affine, dtype=read.voxels.dtype))
    spacing = voxel_sizes(canonical.affine)
    spacing_mm = (float(spacing[0]), float(spacing[1]), float(spacing[2]))
    return Volume(np.asanyarray(canonical.dataobj), spacing_mm, canonical.affine)


def require_same_grid(image: Volume, other: Volume, *, name: str) -> None:
    """Refuse a label map that does not lie on the image's grid.

    Raises:
        GeometryError: If size or position differ.
    """
    if image.values.shape != other.values.shape or not np.allclose(image.affine, other.affine, atol=_TOLERANCE_MM):
        message = (
            f"{name} lies on another grid than the image. Expected {image.values.shape} voxels at the image's "
            f"position, found {other.values.shape}. It is not drawn; run medssl check."
        )
        raise GeometryError(message)
