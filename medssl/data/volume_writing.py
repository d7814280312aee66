"""Write label maps and probabilities as NIfTI on the native grid, and read them again before they get their name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from medssl.core.errors import GeometryError
from medssl.core.files import atomic_path
from medssl.data.grids import Grid

# What says where voxels are, and nothing about a person: descrip, aux_file, db_name and intent_name stay behind.
_PLACE_FIELDS = (
    "qform_code",
    "sform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "srow_x",
    "srow_y",
    "srow_z",
)
_SCANNER_CODE = 1


def place_fields(path: Path) -> dict[str, Any] | None:
    """Return the fields of a NIfTI file that place its voxels in space; None for other formats."""
    if not path.name.lower().endswith((".nii", ".nii.gz")):
        return None
    header = nib.load(path).header
    fields = {name: np.array(header[name]) for name in _PLACE_FIELDS}
    return fields | {"pixdim": np.array(header["pixdim"][:4])}


def write_volume(path: Path, voxels: npt.NDArray[Any], *, grid: Grid, place: dict[str, Any] | None) -> None:
    """Write voxels (X, Y, Z) or (X, Y, Z, K), whole or not at all, and only if the file reads back the same.

    Args:
        path: Final path, ".nii.gz".
        voxels: Label map or probabilities on `grid`.
        grid: Native shape and affine.
        place: From `place_fields`, so that qform, sform and their codes stay as they were; None makes both from
            the affine.

    Raises:
        GeometryError: If shape, affine or voxels read back differ from what was written.
    """
    image = nib.Nifti1Image(voxels, None if place else grid.affine, _header(voxels, place))
    if place is None:
        image.set_sform(grid.affine, code=_SCANNER_CODE)
        image.set_qform(grid.affine, code=_SCANNER_CODE)
    with atomic_path(path) as temporary:
        nib.save(image, temporary)
        _require_equal(temporary, path.name, voxels, grid)


def _header(voxels: npt.NDArray[Any], place: dict[str, Any] | None) -> Any:
    header = nib.Nifti1Header()
    header.set_data_dtype(voxels.dtype)
    header.set_data_shape(voxels.shape)
    for name in _PLACE_FIELDS if place else ():
        header[name] = place[name] if place else None
    if place:
        header["pixdim"][:4] = place["pixdim"]
    header.set_xyzt_units("mm")
    return header


def _require_equal(path: Path, name: str, voxels: npt.NDArray[Any], grid: Grid) -> None:
    written = nib.load(path)
    if written.shape[:3] != grid.shape:
        text = f"{name}: expected the input's grid of {grid.shape} voxels after writing, found {written.shape[:3]}."
        raise GeometryError(text, fix="Report this as a defect of medssl; nothing was kept.", code="output-shape")
    if not np.allclose(written.affine, grid.affine, rtol=1e-5, atol=1e-3):
        found = written.affine.tolist()
        text = f"{name}: expected the input's affine {grid.affine.tolist()} after writing, found {found}."
        raise GeometryError(text, fix="Report this as a defect of medssl; nothing was kept.", code="output-affine")
    if not np.array_equal(np.asanyarray(written.dataobj), voxels):
        text = f"{name}: expected the voxels just written, found others."
        raise GeometryError(text, fix="Check the disk that the output folder is on.", code="output-voxels")
