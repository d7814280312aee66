"""Read what is reduced: the axial slices of a volume, a 2D image, or a whole volume, as 8-bit grey values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import nibabel as nib
import numpy as np
import numpy.typing as npt

from medssl.core.errors import ImageError
from medssl.core.files import sha256_file
from medssl.core.findings import Finding
from medssl.data.images import is_image_file, read_image
from medssl.data.manifest import Case, resolve_image
from medssl.data.volumes import Volume, read_volume
from medssl.data.workers import default_threads, default_workers, map_isolated
from medssl.reduction.hashing import Grey, Hashes, dhash, fine_dhash, thumbnails
from medssl.reduction.likeness import Outline, outline

Window = tuple[float, float] | Literal["auto", "slice", "range", "none"]
Unit = Literal["slice", "volume"]
Kind = Literal["HU", "8-bit", "other"]

CT_WINDOW_HU = (-1000.0, 400.0)
# Odd, so that the median of their distances is one of them
VOLUME_SLICES = 31

_AIR_HU = -500
_BODY_SHARE = 0.01
_PADDING_HU = -1024
_LOWEST_HU_OF_OTHERS = -200
_SAMPLED_VOXELS = 200_000


@dataclass(frozen=True, kw_only=True)
class ItemTask:
    """One case to read.

    Attributes:
        root: Folder that the manifest's paths start from.
        case: Its first image file is read.
        modality: Of the manifest; "CT" is windowed in HU.
        unit: What is compared: slices (also 2D images), or whole volumes.
        window: (lowest, highest) value, "slice" or "range" (minimum to maximum of each slice, 0.5 to 99.5 % of the
            volume), "none" (8-bit values as they are), or "auto".
        size: Side of the thumbnails in pixels, or None for hashes.
        outline_step: Voxel size in mm of the outline of a volume; None makes neither outline nor fine hashes.
    """

    root: Path
    case: Case
    modality: str
    unit: Unit = "slice"
    window: Window = "auto"
    size: int | None = None
    outline_step: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class CaseItems:
    """The slices of one case from inferior to superior, or the case as one item.

    Attributes:
        descriptors: Hashes (N,), hashes of a volume's slices (1, 31), or 8-bit thumbnails (N, size, size).
        positions_mm: Where each slice lies along the body's axis (N,); NaN for images and volumes.
        empty: Which slices show nothing (N,).
        kind: What the voxels look like.
        shape: Rows and columns of a slice.
        sha256: Hash of the file.
        fine: 256-bit hashes of the slices (N, 4), if an outline was asked for.
        outline: What tells a volume from those of other patients; None for images.
        findings: What was noticed.
    """

    descriptors: npt.NDArray[Any]
    positions_mm: npt.NDArray[np.float64]
    empty: npt.NDArray[np.bool_]
    kind: Kind
    shape: tuple[int, int]
    sha256: str
    fine: Hashes | None = None
    outline: Outline | None = None
    findings: list[Finding] = field(default_factory=list)


def read_all(tasks: Sequence[ItemTask], *, workers: int | None) -> list[CaseItems | Exception]:
    """Read many cases; what cannot be read is an exception in its place.

    Args:
        tasks: Which cases, and how.
        workers: Processes; 0 reads one case after another, None chooses by the size of the files.
    """
    count = default_workers(task.root / task.case.image[0] for task in tasks) if workers is None else workers
    return map_isolated(read_items, tasks, workers=count, threads=1 if workers == 0 else default_threads())


def read_items(task: ItemTask) -> CaseItems:
    """Read one case and describe its items.

    Args:
        task: Which case, and how.

    Raises:
        ImageError: If the file cannot be read.
        GeometryError: If its affine is unusable.
        ManifestError: If its path leaves the root.
    """
    path, slices, positions, spacing = _slices_of(task)
    kind = kind_of(slices)
    window = _window_for(task, kind)
    grey = to_grey(slices, window=window, padded=kind == "HU")
    step = task.outline_step
    empty = _empty(slices, grey, kind)
    findings = _unexpected_values(task, kind)
    if task.unit == "volume":
        descriptors: npt.NDArray[Any] = dhash(grey[_spread(len(grey))])[None]
        positions, empty = np.array([np.nan]), np.array([bool(empty.all())])
    else:
        descriptors = dhash(grey) if task.size is None else thumbnails(grey, rows=task.size, columns=task.size)
    return CaseItems(
        descriptors=descriptors,
        positions_mm=positions,
        empty=empty,
        kind=kind,
        shape=(slices.shape[1], slices.shape[2]),
        sha256=sha256_file(path),
        fine=None if step is None else fine_dhash(grey),
        outline=None if step is None or spacing is None else outline(grey, spacing=spacing, step=step),
        findings=findings,
    )


def read_grey(task: ItemTask) -> Grey:
    """Read the axial slices of a case from inferior to superior, or its image, as 8-bit grey values (N, H, W).

    Slice k is the one that an audit calls k.

    Raises:
        MedsslError: As `read_items`.
    """
    _, slices, _, _ = _slices_of(task)
    kind = kind_of(slices)
    return to_grey(slices, window=_window_for(task, kind), padded=kind == "HU")


_Spacing = tuple[float, float, float]


def _slices_of(task: ItemTask) -> tuple[Path, npt.NDArray[Any], npt.NDArray[np.float64], _Spacing | None]:
    """Return file, slices, their heights and the spacing of the axes of `slices`, which an image has not."""
    path = resolve_image(task.root, task.case)[0]
    if is_image_file(path):
        return path, read_image(path)[None], np.array([np.nan]), None
    volume = read_volume(path)
    slices = axial_slices(volume)
    return path, slices, _positions_mm(volume, slices.shape), _axial_spacing(volume)


def _axial_spacing(volume: Volume) -> _Spacing:
    orientation = nib.orientations.io_orientation(volume.header.affine)
    x, y, z = np.array(volume.header.spacing_mm)[np.argsort(orientation[:, 0])]
    return float(z), float(y), float(x)


def axial_slices(volume: Volume) -> npt.NDArray[Any]:
    """Turn a volume (I, J, K) into slices (K, J, I) from inferior to superior: rows to anterior, columns to the right.

    Axes are permuted and mirrored to the nearest anatomical ones, never resampled, so an oblique volume keeps its own
    slices.
    """
    orientation = nib.orientations.io_orientation(volume.header.affine)
    turned = nib.orientations.apply_orientation(volume.voxels, orientation).transpose(2, 1, 0)
    return np.ascontiguousarray(turned)  # every pass over a mirrored view would cost three times as much


def to_grey(slices: npt.NDArray[Any], *, window: Window, padded: bool = False) -> Grey:
    """Map values of slices (N, H, W) to 0 to 255.

    Args:
        slices: Values as stored.
        window: (lowest, highest), "slice", "range" or "none"; see `ItemTask`.
        padded: Raise what lies below -1024, the padding of scanners, to -1024.

    Note:
        Source: the windows are those of the specification; "slice" is what the published code does.
    """
    if window == "none":
        return np.ascontiguousarray(slices, dtype=np.uint8)
    limits = window if isinstance(window, tuple) else None if window == "slice" else _range(slices, padded)
    grey = np.empty(slices.shape, dtype=np.uint8)
    for index, plane in enumerate(slices):
        lowest, highest = _range_of_slice(plane, padded) if limits is None else limits
        # One slice after another stays in the cache; float32 gives 8 bits the same for stored integers and floats
        values = _clipped(plane, lowest, highest)
        values -= np.float32(lowest)
        values *= np.float32(255.0 / max(highest - lowest, 1e-12))
        grey[index] = np.rint(values, out=values)
    return grey


def _clipped(plane: npt.NDArray[Any], lowest: float, highest: float) -> npt.NDArray[np.float32]:
    """Clip in the stored type where the limits are whole numbers of it, which is twice as fast as in floats."""
    if plane.dtype.kind in "iu":
        held = np.iinfo(plane.dtype)
        if float(lowest).is_integer() and float(highest).is_integer() and held.min <= lowest and highest <= held.max:
            return np.clip(plane, plane.dtype.type(lowest), plane.dtype.type(highest)).astype(np.float32)
    return np.clip(plane, lowest, highest).astype(np.float32)


def kind_of(values: npt.NDArray[Any]) -> Kind:
    """Tell what values look like: HU (far below zero), 8-bit grey values, or something else."""
    lowest, highest = values.min(), values.max()
    if lowest < _LOWEST_HU_OF_OTHERS:
        return "HU"
    whole = values.dtype.kind in "iub" or bool(np.all(values == np.rint(values)))
    return "8-bit" if whole and lowest >= 0 and highest <= 255 else "other"


def _positions_mm(volume: Volume, shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Return the height of each slice's centre above the origin of the scanner, in mm."""
    affine = volume.header.affine @ nib.orientations.inv_ornt_aff(
        nib.orientations.io_orientation(volume.header.affine), volume.header.shape
    )
    depth, rows, columns = shape
    centre = affine[2, 0] * (columns - 1) / 2 + affine[2, 1] * (rows - 1) / 2 + affine[2, 3]
    heights: npt.NDArray[np.float64] = centre + affine[2, 2] * np.arange(depth)
    return heights


def _window_for(task: ItemTask, kind: Kind) -> Window:
    if task.window == "none" and kind != "8-bit":
        text = f"expected 8-bit values for the window none, found {kind} values."
        raise ImageError(text, fix="Choose another --window for this data.", code="window")
    if task.window != "auto":
        return task.window
    if kind == "8-bit":
        return "none"
    return CT_WINDOW_HU if is_ct(task.modality) and kind == "HU" else "range"


def is_ct(modality: str) -> bool:
    """Tell whether a manifest's modality is computed tomography."""
    return modality.strip().upper().startswith("CT")


def _unexpected_values(task: ItemTask, kind: Kind) -> list[Finding]:
    if kind == "HU" or not is_ct(task.modality) or task.window not in ("auto", CT_WINDOW_HU):
        return []
    found = "8-bit values without HU" if kind == "8-bit" else f"no value below {_LOWEST_HU_OF_OTHERS} HU"
    used = "the given window was used all the same" if task.window != "auto" else "they were taken from their own range"
    text = f"expected CT values in HU, found {found}; {used}."
    fix = "Export the image in HU, or leave the case out if it is of another modality."
    return [Finding(code="no-hu", severity="warning", text=text, fix=fix, case=task.case.id, where=task.case.image[0])]


def _empty(slices: npt.NDArray[Any], grey: Grey, kind: Kind) -> npt.NDArray[np.bool_]:
    constant = grey.max(axis=(1, 2)) == grey.min(axis=(1, 2))
    if kind != "HU":
        return np.asarray(constant)
    body = np.array([np.count_nonzero(plane > _AIR_HU) for plane in slices])
    return np.asarray(constant | (body < _BODY_SHARE * slices[0].size))


def _range(slices: npt.NDArray[Any], padded: bool) -> tuple[float, float]:
    step = max(1, round((slices.size / _SAMPLED_VOXELS) ** (1 / 3)))
    sample = slices[::step, ::step, ::step]
    lowest, highest = np.percentile(np.maximum(sample, _PADDING_HU) if padded else sample, (0.5, 99.5))
    if lowest == highest:  # mostly background: the outliers are all there is
        return _range_of_slice(slices, padded)
    return float(lowest), float(highest)


def _range_of_slice(plane: npt.NDArray[Any], padded: bool) -> tuple[float, float]:
    lowest, highest = float(plane.min()), float(plane.max())
    return (max(lowest, _PADDING_HU), max(highest, _PADDING_HU)) if padded else (lowest, highest)


def _spread(count: int) -> npt.NDArray[np.intp]:
    """Return the slices at 31 heights, evenly from end to end; thin volumes repeat some."""
    return ((np.arange(VOLUME_SLICES) + 0.5) * count / VOLUME_SLICES).astype(np.intp)
