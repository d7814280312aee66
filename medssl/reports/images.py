"""Volumes as a picture needs them: axes along the patient, spacing in mm, nothing resampled."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK
from nibabel.affines import voxel_sizes
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from medssl.core.errors import GeometryError, ImageError

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
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


@dataclass(frozen=True)
class Header:
    """Size in voxels and spacing in mm, in the file's own axis order."""

    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]


def read_header(path: Path) -> Header:
    """Read the size and spacing of a volume without its voxels.

    Raises:
        ImageError: If the file cannot be read.
    """
    try:
        if _is_nifti(path):
            header = nib.load(path).header
            return Header(tuple(header.get_data_shape()[:3]), tuple(float(zoom) for zoom in header.get_zooms()[:3]))
        reader = SimpleITK.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        return Header(tuple(reader.GetSize()[:3]), tuple(reader.GetSpacing()[:3]))
    except _READ_ERRORS as error:
        raise _unreadable(path, error) from error


def read_volume(path: Path) -> Volume:
    """Read a volume and turn its axes to the patient's (nearest axes; oblique volumes are not resampled).

    Raises:
        ImageError: If the file cannot be read or holds no volume.
    """
    try:
        image = nib.load(path) if _is_nifti(path) else _through_itk(path)
        canonical = nib.as_closest_canonical(image)
        values = np.asanyarray(canonical.dataobj)
    except _READ_ERRORS as error:
        raise _unreadable(path, error) from error
    while values.ndim > 3:
        values = values[..., 0]
    if values.ndim != 3:
        message = f"{path.name}: expected a volume of three axes, found shape {values.shape}."
        raise ImageError(message)
    spacing = voxel_sizes(canonical.affine)
    return Volume(values, (float(spacing[0]), float(spacing[1]), float(spacing[2])), canonical.affine)


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


_READ_ERRORS = (OSError, EOFError, ValueError, RuntimeError, ImageFileError)


def _is_nifti(path: Path) -> bool:
    return path.name.endswith((".nii", ".nii.gz"))


def _through_itk(path: Path) -> Any:
    image = SimpleITK.ReadImage(str(path))
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) @ np.diag(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    values = np.transpose(SimpleITK.GetArrayFromImage(image), (2, 1, 0))
    return nib.Nifti1Image(values, _LPS_TO_RAS @ affine, dtype=values.dtype)


def _unreadable(path: Path, error: Exception) -> ImageError:
    found = "no such file" if isinstance(error, FileNotFoundError) else type(error).__name__
    return ImageError(f"{path.name}: expected a readable volume, found {found}. Check the file and --data-root.")
