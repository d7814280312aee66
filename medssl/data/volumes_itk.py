"""Read MHA and NRRD files through SimpleITK, with the same checks as NIfTI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import SimpleITK as sitk  # noqa: N813  (the name that its own documentation uses)

from medssl.core.errors import ImageError
from medssl.data.volume_checks import no_permission, require_spacing
from medssl.data.volumes import Header, checked_header

# Only what stands in the file itself is read: a header that names another file could lead anywhere.
_LONGEST_HEADER_BYTES = 1 << 16
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])


def read_header_itk(path: Path, file_bytes: int) -> Header:
    """Read and check the header of an .mha or .nrrd file.

    Args:
        path: The file.
        file_bytes: Its size.

    Raises:
        ImageError: If it cannot be read, names another file for its voxels, or breaks a check.
        GeometryError: If spacing or affine are unusable.
    """
    _require_attached(path)
    reader = _reader(path)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(path, error) from error
    if reader.GetNumberOfComponents() != 1:
        text = f"{path.name}: expected one number in each voxel, found {reader.GetNumberOfComponents()}."
        raise ImageError(text, fix="Write one file for each channel.", code="image-rgb")
    shape = tuple(int(size) for size in reader.GetSize())
    spacing = tuple(float(value) for value in reader.GetSpacing())
    require_spacing(path, spacing)
    return checked_header(
        path=path, shape=shape, affine=_affine(reader, spacing), dtype=_dtype(path, reader), file_bytes=file_bytes
    )


def read_voxels_itk(header: Header) -> npt.NDArray[Any]:
    """Read the voxels (I, J, K) of a file whose header was checked.

    Raises:
        ImageError: If the file ends early or is damaged.
    """
    try:
        image = _reader(header.path).Execute()
    except RuntimeError as error:
        raise _unreadable(header.path, error) from error
    return sitk.GetArrayFromImage(image).transpose(2, 1, 0)


def _reader(path: Path) -> sitk.ImageFileReader:
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    return reader


def _require_attached(path: Path) -> None:
    try:
        with path.open("rb") as stream:
            start = stream.read(_LONGEST_HEADER_BYTES)
    except PermissionError as error:
        raise no_permission(path) from error
    if path.name.lower().endswith(".mha"):
        attached = b"ElementDataFile = LOCAL" in start or b"ElementDataFile=LOCAL" in start
    else:
        fields = start.split(b"\n\n", 1)[0].split(b"\r\n\r\n", 1)[0].lower()
        attached = start.startswith(b"NRRD") and b"\ndata file:" not in fields and b"\ndatafile:" not in fields
    if not attached:
        text = f"{path.name}: expected a header with its voxels in the same file, found none."
        fix = "Check what kind of file this is; export it as NIfTI."
        raise ImageError(text, fix=fix, code="file-format")


def _dtype(path: Path, reader: sitk.ImageFileReader) -> np.dtype[Any]:
    # An image of one voxel is the public way from a pixel identifier to a NumPy type
    try:
        return sitk.GetArrayFromImage(sitk.Image([1, 1], reader.GetPixelID())).dtype
    except (RuntimeError, TypeError, KeyError) as error:
        text = f"{path.name}: expected voxels of plain numbers, found another type."
        raise ImageError(text, fix="Convert the image to float32.", code="image-type") from error


def _affine(reader: sitk.ImageFileReader, spacing: tuple[float, ...]) -> npt.NDArray[np.float64]:
    affine = np.eye(4)
    if len(spacing) == 3:  # otherwise the shape is refused before the affine is looked at
        direction = np.asarray(reader.GetDirection(), dtype=np.float64).reshape(3, 3)
        affine[:3, :3] = _LPS_TO_RAS @ direction @ np.diag(spacing)
        affine[:3, 3] = _LPS_TO_RAS @ np.asarray(reader.GetOrigin(), dtype=np.float64)
    return affine


def _unreadable(path: Path, error: Exception) -> ImageError:
    reason = str(error).strip().splitlines()[-1].replace(str(path), path.name)
    if "No such file" in reason and path.is_file():  # what the library says of voxels that end early
        reason = "its voxels end early"
    text = f"{path.name}: expected a sound image, found a file that SimpleITK cannot read ({reason})."
    return ImageError(text, fix="Copy or export the file again.", code="file-truncated")
