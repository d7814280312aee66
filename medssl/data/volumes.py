"""Read headers and voxels of NIfTI, MHA and NRRD files, and refuse what no reader of volumes should trust.

Every failure is an error with a stable code: file-missing, file-kind, file-permission, file-empty, file-format,
file-truncated, file-oversized, image-dimensions, image-rgb, image-type, image-not-finite, memory (ResourceError),
spacing, units and affine (GeometryError).
"""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import nibabel as nib
import numpy as np
import numpy.typing as npt
import psutil
from isal import igzip, igzip_lib
from nibabel.spatialimages import HeaderDataError

from medssl.core.errors import ImageError, ResourceError
from medssl.data.volume_checks import (
    no_permission,
    require_affine,
    require_millimetres,
    require_numbers,
    require_room,
    require_spacing,
    require_three_dimensions,
    size_of_regular_file,
)

NIFTI_SUFFIXES = (".nii", ".nii.gz")
SUFFIXES = (*NIFTI_SUFFIXES, ".mha", ".nrrd")

# What a stream raises whose content is not what was written; isal types its error as a plain object
_DAMAGED = (OSError, cast("type[Exception]", igzip_lib.IsalError))
_CHUNK_BYTES = 1 << 22
_NIFTI_HEADERS = {348: nib.Nifti1Header, 540: nib.Nifti2Header}
_MEMORY_SHARE = 0.9


@dataclass(frozen=True, kw_only=True, eq=False)
class Header:
    """What a file says about its voxels, before any of them is read.

    Attributes:
        path: The file.
        shape: Voxels along I, J, K.
        spacing_mm: Voxel size along I, J, K: the lengths of the affine's columns.
        affine: 4 x 4, from voxel indices to mm in RAS+ world coordinates.
        dtype: Type of the stored voxels.
        slope: Stored values are multiplied by this.
        intercept: Then this is added.
        file_bytes: Size of the file on disk.
        data_offset: Where the voxels begin, uncompressed; 0 where SimpleITK reads them.
    """

    path: Path
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    affine: npt.NDArray[np.float64]
    dtype: np.dtype[Any]
    slope: float
    intercept: float
    file_bytes: int
    data_offset: int

    @property
    def orientation(self) -> str:
        """Where the voxel axes point, such as "RAS" or "LPS"."""
        return "".join(nib.aff2axcodes(self.affine))

    @property
    def stored_bytes(self) -> int:
        """Bytes of all voxels as stored."""
        return math.prod(self.shape) * self.dtype.itemsize

    @property
    def is_scaled(self) -> bool:
        """Whether values differ from the stored ones by a slope and an intercept."""
        return (self.slope, self.intercept) != (1.0, 0.0)


@dataclass(frozen=True, kw_only=True, eq=False)
class Volume:
    """Voxels (I, J, K) with the header they came with."""

    header: Header
    voxels: npt.NDArray[Any]


def read_header(path: Path) -> Header:
    """Read and check the header of a 3D image; no voxel is read, so hostile sizes cost nothing.

    A trailing fourth dimension of one (X, Y, Z, 1) counts as 3D.

    Args:
        path: .nii, .nii.gz, .mha or .nrrd file.

    Raises:
        ImageError: If the file cannot be opened, is no 3D image of plain numbers, or is too short for its voxels.
        GeometryError: If spacing or affine are unusable.
    """
    path = Path(path)
    file_bytes = size_of_regular_file(path)
    if path.name.lower().endswith(NIFTI_SUFFIXES):
        header = _nifti_header(path, file_bytes)
    elif path.name.lower().endswith(SUFFIXES):
        from medssl.data.volumes_itk import read_header_itk  # SimpleITK takes as long to import as all the rest

        header = read_header_itk(path, file_bytes)
    else:
        text = f"{path.name}: expected one of {', '.join(SUFFIXES)}, found another suffix."
        raise ImageError(text, fix="Convert the image to NIfTI.", code="file-format")
    return header


def read_volume(path: Path, *, finite: bool = True) -> Volume:
    """Read a 3D image with all its voxels, as stored or, if the file scales its values, as floats.

    The file is read to its end, so that a damaged checksum is noticed.

    Args:
        path: .nii, .nii.gz, .mha or .nrrd file.
        finite: Refuse NaN and infinite voxels.

    Raises:
        ImageError: As `read_header`; or the file ends early or is damaged; or voxels are not finite.
        GeometryError: As `read_header`.
        ResourceError: If the voxels do not fit into free memory.
    """
    header = read_header(path)
    _require_memory(header)
    if header.path.name.lower().endswith(NIFTI_SUFFIXES):
        voxels = _scaled(_nifti_voxels(header), header)
    else:
        from medssl.data.volumes_itk import read_voxels_itk

        voxels = read_voxels_itk(header)
    if finite:
        _require_finite(header, voxels)
    return Volume(header=header, voxels=voxels)


def count_not_finite(voxels: npt.NDArray[Any]) -> int:
    """Count NaN and infinite voxels, slice by slice so that no mask of the whole volume is needed."""
    if voxels.dtype.kind != "f":
        return 0
    return sum(int(plane.size - np.count_nonzero(np.isfinite(plane))) for plane in np.moveaxis(voxels, -1, 0))


def checked_header(
    *,
    path: Path,
    shape: tuple[int, ...],
    affine: npt.NDArray[np.float64],
    dtype: np.dtype[Any],
    file_bytes: int,
    slope: float = 1.0,
    intercept: float = 0.0,
    data_offset: int = 0,
    compressed: bool = True,
) -> Header:
    """Check what a file's header says, in the order in which a person would, and return it.

    Args:
        path: The file.
        shape: Shape as stored.
        affine: Voxel indices to RAS+ mm.
        dtype: Type of the stored voxels.
        file_bytes: Size of the file on disk.
        slope: Factor of the stored values.
        intercept: Offset of the stored values.
        data_offset: Where the voxels begin, uncompressed.
        compressed: Whether the voxels are compressed.

    Raises:
        ImageError: If it is no 3D image of plain numbers, or the file is too short for its voxels.
        GeometryError: If the affine is unusable.
    """
    require_numbers(path, dtype)
    size = require_three_dimensions(path, shape)
    require_room(path, math.prod(size) * dtype.itemsize + data_offset, file_bytes, compressed=compressed)
    spacing = require_affine(path, affine)
    return Header(
        path=path,
        shape=size,
        spacing_mm=spacing,
        affine=affine,
        dtype=dtype,
        slope=slope,
        intercept=intercept,
        file_bytes=file_bytes,
        data_offset=data_offset,
    )


def _open_nifti(path: Path) -> IO[bytes]:
    compressed_name = path.name.lower().endswith(".gz")
    try:
        with path.open("rb") as start:
            compressed = start.read(2) == b"\x1f\x8b"
    except PermissionError as error:
        raise no_permission(path) from error
    except OSError as error:  # it went away since its size was asked for
        text = f"{path.name}: expected a file that can be opened, found: {error.strerror}."
        raise ImageError(text, fix="Bring the file back, or try again.", code="file-missing") from error
    if compressed != compressed_name:
        found = "a gzip file" if compressed else "no gzip file"
        text = f"{path.name}: expected what the suffix says, found {found}."
        fix = "Rename it to the suffix that fits, or export the image again."
        raise ImageError(text, fix=fix, code="file-format")
    return cast(IO[bytes], igzip.open(path)) if compressed else path.open("rb")


def _read_exactly(stream: IO[bytes], target: memoryview, path: Path, *, start: int = 0) -> None:
    """Fill `target` with the bytes from `start` on, in chunks so that a hostile file is found out early."""
    position = 0
    try:
        stream.seek(start)
        while position < len(target):
            chunk = stream.read(min(_CHUNK_BYTES, len(target) - position))
            if not chunk:
                raise EOFError("end of file")
            target[position : position + len(chunk)] = chunk
            position += len(chunk)
    except EOFError as error:
        text = f"{path.name}: expected {len(target):,} more bytes, found the end of the file after {position:,}."
        raise ImageError(text, fix="Copy or export the file again.", code="file-truncated") from error
    except _DAMAGED as error:
        text = f"{path.name}: expected a sound file, found damaged data ({error})."
        raise ImageError(text, fix="Copy or export the file again.", code="file-format") from error


def _nifti_header(path: Path, file_bytes: int) -> Header:
    with closing(_open_nifti(path)) as stream:
        raw = _parse_nifti(path, stream)
    # Dimensions are looked at first: a 2D image often lacks the spacing of the third axis.
    shape = _without_trailing_one(tuple(int(size) for size in raw.get_data_shape()))
    require_three_dimensions(path, shape)
    require_millimetres(path, int(raw["xyzt_units"]))
    require_spacing(path, tuple(float(value) for value in raw["pixdim"][1:4]))
    try:
        slope, intercept = raw.get_slope_inter()
        data_offset = int(raw["vox_offset"])
        affine = np.asarray(raw.get_best_affine(), dtype=np.float64)
        dtype = raw.get_data_dtype()
    except (HeaderDataError, ValueError, OverflowError, KeyError) as error:
        text = f"{path.name}: expected a NIfTI header with an orientation and a known type, found: {error}."
        raise ImageError(text, fix="Convert the image again from its source.", code="file-format") from error
    return checked_header(
        path=path,
        shape=shape,
        affine=affine,
        dtype=dtype,
        file_bytes=file_bytes,
        slope=1.0 if slope is None else float(slope),
        intercept=0.0 if intercept is None else float(intercept),
        data_offset=max(data_offset, raw.sizeof_hdr),
        compressed=path.name.lower().endswith(".gz"),
    )


def _parse_nifti(path: Path, stream: IO[bytes]) -> Any:
    first = bytearray(4)
    _read_exactly(stream, memoryview(first), path)
    sizes = {int.from_bytes(first, "little"), int.from_bytes(first, "big")}
    length = next(iter(sizes & _NIFTI_HEADERS.keys()), None)
    if length is None:
        text = f"{path.name}: expected a NIfTI header, found something else."
        raise ImageError(text, fix="Check what kind of file this is; export it as NIfTI.", code="file-format")
    rest = bytearray(length - 4)
    _read_exactly(stream, memoryview(rest), path, start=4)
    endianness = "<" if int.from_bytes(first, "little") == length else ">"
    # check=False: nibabel's check silently repairs a spacing of zero, which must be seen instead
    return _NIFTI_HEADERS[length](bytes(first + rest), endianness, check=False)


def _nifti_voxels(header: Header) -> npt.NDArray[Any]:
    buffer = np.empty(header.stored_bytes, dtype=np.uint8)
    with closing(_open_nifti(header.path)) as stream:
        _read_exactly(stream, buffer.data, header.path, start=header.data_offset)
        _verify_end(stream, header.path)
    voxels = buffer.view(header.dtype).reshape(header.shape, order="F")
    native = header.dtype.newbyteorder("=")
    return voxels if header.dtype == native else voxels.astype(native)


def _verify_end(stream: IO[bytes], path: Path) -> None:
    """Read past the voxels, so that its checksum is compared."""
    try:
        stream.read(_CHUNK_BYTES)
    except (EOFError, *_DAMAGED) as error:
        text = f"{path.name}: expected a sound end of the file, found a wrong checksum or a missing end ({error})."
        raise ImageError(text, fix="Copy or export the file again.", code="file-truncated") from error


def _scaled(voxels: npt.NDArray[Any], header: Header) -> npt.NDArray[Any]:
    if not header.is_scaled:
        return voxels
    # float32 holds 16-bit integers exactly
    exact_in_float32 = voxels.dtype.itemsize <= 2 or voxels.dtype == np.float32
    scaled: npt.NDArray[np.floating[Any]] = voxels.astype(np.float32 if exact_in_float32 else np.float64)
    scaled *= header.slope
    scaled += header.intercept
    return scaled


def _without_trailing_one(shape: tuple[int, ...]) -> tuple[int, ...]:
    return shape[:3] if len(shape) > 3 and set(shape[3:]) == {1} else shape


def _require_memory(header: Header) -> None:
    factor = 1 + max(1, 4 // header.dtype.itemsize) if header.is_scaled else 1
    needed = header.stored_bytes * factor
    free = int(psutil.virtual_memory().available)
    if needed > _MEMORY_SHARE * free:
        text = f"{header.path.name}: its voxels need {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free."
        raise ResourceError(text, fix="Crop or resample the image, or use a machine with more memory.", code="memory")


def _require_finite(header: Header, voxels: npt.NDArray[Any]) -> None:
    bad = count_not_finite(voxels)
    if bad:
        text = f"{header.path.name}: expected finite voxels, found {bad:,} of {voxels.size:,} that are NaN or infinite."
        raise ImageError(text, fix="Replace them by the background value, or export again.", code="image-not-finite")
