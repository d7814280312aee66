"""What an image file must be before its voxels are worth reading; each refusal has its own code."""

from __future__ import annotations

import math
import stat
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from medssl.core.errors import GeometryError, ImageError

# Deflate cannot pack more than 1032 bytes into one; a header that promises more than that is lying.
_MOST_DEFLATED = 1032


def size_of_regular_file(path: Path) -> int:
    """Return the size of a file in bytes.

    Raises:
        ImageError: If there is no file, it is empty, no regular file or out of reach.
    """
    name = path.name
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        found = "a link whose target does not exist" if path.is_symlink() else "nothing at that path"
        text = f"{name}: expected an image file, found {found}."
        raise ImageError(text, fix="Correct the path, or bring the file back.", code="file-missing") from error
    except PermissionError as error:
        raise no_permission(path) from error
    except (OSError, ValueError) as error:  # a loop of links, a name too long, a NUL in it, a drive that went away
        why = error.strerror if isinstance(error, OSError) else error
        text = f"{name}: expected an image file, found a path that cannot be followed ({why})."
        raise ImageError(text, fix="Correct the path or the link.", code="file-missing") from error
    if not stat.S_ISREG(status.st_mode):
        found = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
        text = f"{name}: expected an image file, found {found}."
        raise ImageError(text, fix="Name the image file itself.", code="file-kind")
    if status.st_size == 0:
        text = f"{name}: expected an image, found an empty file (0 bytes)."
        raise ImageError(text, fix="Copy or export the file again.", code="file-empty")
    return status.st_size


def no_permission(path: Path) -> ImageError:
    """Make the error for a file that may not be read."""
    text = f"{path.name}: expected a readable file, found one that this user may not read."
    return ImageError(text, fix="Give read permission (chmod u+r), or run as its owner.", code="file-permission")


def require_numbers(path: Path, dtype: np.dtype[Any]) -> None:
    """Refuse voxels that are not one integer or float of at most 8 bytes.

    Raises:
        ImageError: If they are colours, complex or longer.
    """
    if dtype.names:
        text = f"{path.name}: expected one number in each voxel, found colours ({'/'.join(dtype.names)})."
        raise ImageError(text, fix="Convert it to grey values, or choose the original image.", code="image-rgb")
    if dtype.kind not in "iufb" or dtype.itemsize > 8:
        text = f"{path.name}: expected integers or floats of at most 8 bytes, found {dtype}."
        raise ImageError(text, fix="Convert the image to float32.", code="image-type")


def require_three_dimensions(path: Path, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the shape as three numbers.

    Raises:
        ImageError: If the image is not 3D, or has no voxels.
    """
    found = " x ".join(str(size) for size in shape)
    if any(size <= 0 for size in shape) or not shape:
        text = f"{path.name}: expected a positive number of voxels along each axis, found ({found})."
        raise ImageError(text, fix="Export the image again.", code="image-dimensions")
    if len(shape) != 3:
        fix = (
            "Write one file for each channel or time point and list them all as the case's image."
            if len(shape) > 3
            else "Stack the slices into a volume, or take the case out."
        )
        text = f"{path.name}: expected a 3D image, found {len(shape)}D ({found})."
        raise ImageError(text, fix=fix, code="image-dimensions")
    return shape[0], shape[1], shape[2]


def require_room(path: Path, needed: int, file_bytes: int, *, compressed: bool) -> None:
    """Refuse a header that promises more bytes than its file can hold.

    Raises:
        ImageError: If it does.
    """
    most = file_bytes * (_MOST_DEFLATED if compressed else 1)
    if needed <= most:
        return
    text = (
        f"{path.name}: the header promises {needed:,} bytes, but a file of {file_bytes:,} bytes holds at most {most:,}."
    )
    # An honest file that lost its end misses a part; no honest file misses all but a trace
    code = "file-truncated" if not compressed and needed < 1000 * file_bytes else "file-oversized"
    raise ImageError(text, fix="Copy or export the file again.", code=code)


def require_millimetres(path: Path, xyzt_units: int) -> None:
    """Refuse a NIfTI header that states metres or micrometres; unknown counts as mm, as everybody reads it.

    Some programs convert these and others do not, so volumes and distances would differ by a thousand.

    Raises:
        GeometryError: If it does.
    """
    unit = {1: "metres", 3: "micrometres"}.get(xyzt_units % 8)  # the other bits are the unit of time
    if unit is not None:
        text = f"{path.name}: expected lengths in mm, found a header that states {unit}."
        fix = "Write spacing and affine in mm, or the right unit if they are in mm already."
        raise GeometryError(text, fix=fix, code="units")


def require_spacing(path: Path, spacing_mm: tuple[float, ...]) -> None:
    """Refuse a spacing that is not positive and finite.

    Raises:
        GeometryError: If a spacing is zero, negative, infinite or NaN.
    """
    if not all(math.isfinite(value) and value > 0 for value in spacing_mm):
        found = " x ".join(f"{value:g}" for value in spacing_mm)
        text = f"{path.name}: expected positive voxel sizes in mm, found {found}."
        raise GeometryError(text, fix="Convert the image again from its source, or correct the header.", code="spacing")


def require_affine(path: Path, affine: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the lengths of the affine's columns in mm.

    Raises:
        GeometryError: If it does not map voxels to three dimensions.
    """
    spacing = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    # The determinant relative to the spacings does not depend on the voxel size
    if np.isfinite(affine).all() and (spacing > 0).all() and abs(np.linalg.det(affine[:3, :3] / spacing)) > 1e-4:
        return float(spacing[0]), float(spacing[1]), float(spacing[2])
    rows = "; ".join(" ".join(f"{value:g}" for value in row) for row in affine[:3])
    text = f"{path.name}: expected an affine that maps voxels to three dimensions, found a singular one ({rows})."
    raise GeometryError(text, fix="Convert the image again from its source, or correct the header.", code="affine")
