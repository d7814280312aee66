"""Volumes as a viewer page carries them: NIfTI without a word in its header, packed, within a size."""

from __future__ import annotations

import base64
import gzip
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medssl.core.errors import ResourceError
from medssl.reports.case_volumes import CaseVolumes

MOST_VOXELS = 32 * 2**20
"""Largest volume of a page: 512 x 512 x 128. With its two label maps it takes the browser about 1 GB."""
MOST_STRUCTURES = 255
MARGIN_MM = 30.0
_STEPS = 65_535
_LEVEL = 6  # of gzip; higher ones take several times as long for 1% less


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """The volumes of one case, packed for a page.

    Attributes:
        image: Base64 of a gzipped NIfTI file.
        prediction: The same, uint8: 0 background, 1 the first of the structures, and so on.
        reference: The same, or None.
        first: The volume's voxel (x, y, z) that is the page's first.
        shape: Voxels along x, y, z, which grow to the patient's right, front and head.
        notes: What the page does not show as it is in the files, in words.
    """

    image: str
    prediction: str
    reference: str | None
    first: tuple[int, int, int]
    shape: tuple[int, int, int]
    notes: tuple[str, ...]


def embed(case: CaseVolumes, values: list[int], *, most_voxels: int = MOST_VOXELS) -> Embedded:
    """Pack the volumes of a case; a large one is cut to its structures with 30 mm around them.

    Args:
        case: The volumes.
        values: Values of the structures, in the order of the page's colours.
        most_voxels: What one page may hold.

    Raises:
        ResourceError: If even the cut volume is too large, or there are more structures than a page shows.
    """
    if len(values) > MOST_STRUCTURES:
        message = f"expected at most {MOST_STRUCTURES} structures in a viewer page, found {len(values)}."
        raise ResourceError(message)
    box, notes = _box(case, most_voxels)
    first = (int(box[0].start), int(box[1].start), int(box[2].start))
    affine = case.image.affine @ _shift(first)
    grey, slope, intercept = _grey(case.image.values[box])
    if slope != 1:
        notes += (f"Grey values are shown in steps of {slope:.3g}.",)
    x, y, z = grey.shape
    return Embedded(
        image=_pack(grey, affine, slope=slope, intercept=intercept),
        prediction=_pack(_in_order(case.prediction[box], values), affine),
        reference=None if case.reference is None else _pack(_in_order(case.reference[box], values), affine),
        first=first,
        shape=(x, y, z),
        notes=notes,
    )


def _box(case: CaseVolumes, most_voxels: int) -> tuple[tuple[slice, ...], tuple[str, ...]]:
    shape, spacing = case.image.values.shape, case.image.spacing_mm
    whole = tuple(slice(0, size) for size in shape)
    if np.prod(shape) <= most_voxels:
        return whole, ()
    foreground = case.prediction > 0 if case.reference is None else (case.prediction > 0) | (case.reference > 0)
    box = []
    for axis, size in enumerate(shape):
        hits = np.flatnonzero(foreground.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = int(np.ceil(MARGIN_MM / spacing[axis]))
        box.append(slice(max(0, hits[0] - margin), min(size, hits[-1] + 1 + margin)) if hits.size else slice(0, size))
    cut = tuple(part.stop - part.start for part in box)
    if np.prod(cut) > most_voxels:
        message = (
            f"expected at most {most_voxels:,} voxels in a viewer page, found {_times(shape)}, and {_times(cut)} when "
            "cut to the structures."
        )
        raise ResourceError(message, fix="Open the files themselves in a viewer.")
    return tuple(box), (
        f"Cut to the structures with {MARGIN_MM:.0f} mm around them: {_times(cut)} of {_times(shape)} voxels.",
    )


def _times(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _shift(start: tuple[int, int, int]) -> NDArray[np.float64]:
    matrix = np.eye(4)
    matrix[:3, 3] = start
    return matrix


def _grey(values: NDArray[Any]) -> tuple[NDArray[Any], float, float]:
    """Return the grey values in at most 16 bits, with their slope and intercept; whole numbers stay what they are."""
    if values.dtype in (np.uint8, np.int16, np.uint16):
        return values, 1.0, 0.0
    real = values if values.dtype.kind == "f" else values.astype(np.float64)
    finite = np.isfinite(real)
    if not finite.any():
        return np.zeros(values.shape, np.uint8), 1.0, 0.0
    low, high = float(real[finite].min()), float(real[finite].max())
    known = np.where(finite, real, low)
    whole = bool((known == np.rint(known)).all())
    for kind in (np.int16, np.uint16):
        if whole and np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return known.astype(kind), 1.0, 0.0
    slope = (high - low) / _STEPS or 1.0
    return np.rint((known.astype(np.float64) - low) / slope).astype(np.uint16), slope, low


def _in_order(labels: NDArray[Any], values: list[int]) -> NDArray[np.uint8]:
    ordered = np.zeros(labels.shape, np.uint8)
    for order, value in enumerate(values, 1):
        ordered[labels == value] = order
    return ordered


def _pack(values: NDArray[Any], affine: NDArray[np.float64], *, slope: float = 1.0, intercept: float = 0.0) -> str:
    # A header of our own: the texts of the file's (descrip, aux_file, intent_name, db_name, extensions) may name people
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    image.header.set_slope_inter(slope, intercept)
    packed = gzip.compress(image.to_bytes(), compresslevel=_LEVEL, mtime=0)
    return base64.b64encode(packed).decode("ascii")
