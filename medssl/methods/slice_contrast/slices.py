"""Which slices a pre-training sees, as the audit of a reduction left them, and their random crops."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import nibabel as nib
import numpy as np
import numpy.typing as npt
import psutil
import torch
from monai.transforms import Compose
from torch import Tensor
from torch.utils.data import Dataset

from medssl.core.errors import ConfigError, ImageError, MedsslError, ResourceError
from medssl.core.seeding import derive_seed
from medssl.data.datasets import SampleKey, refuse_held_out
from medssl.data.images import is_image_file
from medssl.data.manifest import Case, Part, load_manifest, resolve_image
from medssl.data.volumes import read_header
from medssl.data.workers import default_workers, map_isolated
from medssl.reduction.audit import kept_slices, read_audit
from medssl.reduction.hashing import Grey, thumbnails
from medssl.reduction.items import ItemTask, Window, read_grey

Slice = dict[str, Any]
Orientation = Literal["LP", "RA"]

_MEMORY_SHARE = 0.8


def pretraining_slices(
    *, manifest: str, data_root: str | None = None, parts: Sequence[Part] = ("unlabeled",)
) -> list[Slice]:
    """List the axial slices of volumes and the 2D images of a manifest; no label is read.

    Of a manifest that `medssl reduce` wrote, the kept slices are listed, and all slices of cases that it did not look
    at; of any other, all slices. Several channels: the first one.

    Args:
        manifest: Manifest file.
        data_root: Folder the manifest's paths start from; the manifest's own folder by default.
        parts: Parts to learn from: unlabeled, training, or both.

    Returns:
        In manifest order, from inferior to superior: `image` (path), `slice` (as an audit counts), `case_id` and
        `modality`.

    Raises:
        ConfigError: If another part is named, or nothing is left.
        ManifestError: If the audit is missing or changed.
    """
    refuse_held_out(parts)
    path = Path(manifest)
    content = load_manifest(path)
    root = path.parent if data_root is None else Path(data_root)
    kept = {} if content.reduction is None else kept_slices(read_audit(content, path.parent))
    found = []
    for part in parts:
        for case in content.part(part):
            image = resolve_image(root, case)[0]
            numbers = kept[case.id] if case.id in kept else range(_slice_count(image))
            common = {"image": str(image), "case_id": case.id, "modality": content.modality}
            found += [{**common, "slice": number} for number in numbers]
    if not found:
        message = f"{manifest}: expected cases in {', '.join(parts)}, found no slice. Choose other parts."
        raise ConfigError(message)
    return found


def _slice_count(path: Path) -> int:
    if is_image_file(path):
        return 1
    header = read_header(path)
    axes = nib.orientations.io_orientation(header.affine)[:, 0].tolist()
    return header.shape[axes.index(2)]


class _Reading(NamedTuple):
    """One file and the slices that are wanted of it."""

    task: ItemTask
    numbers: tuple[int, ...]
    side: int | None
    orientation: Orientation


class SliceCrops(Dataset[dict[str, Any]]):
    """Hold slices as 8-bit images in memory and cut random crops of them, keyed by the position in the stream.

    A file is read once. Values become 8 bits as in `medssl reduce`: CT through its window in HU, 8-bit images as they
    are, others from their own range. A sample is a list of crops, each (1, X, Y), in the order of `crops`.

    Args:
        slices: From `pretraining_slices`.
        crops: For each kind of crop its `count` and its `transform`, a `Compose` of array transforms that gets
            (1, X, Y) with values from 0 to 1.
        seed: Seed of the run.
        window: (lowest, highest) value, "slice", "range", "none" or "auto"; see `medssl reduce --window`.
        side: Larger slices are resampled so that the shorter side has this length; None keeps them.
        orientation: Of slices of volumes: "LP" as they are shown on screen (and exported as 2D images), "RA" as
            bundles see them that orient volumes to RAS.

    Raises:
        ConfigError: If there is no crop to cut.
        ImageError: If a file cannot be read, or has no such slice; it names the case.
        ResourceError: If the slices do not fit into free memory.
    """

    def __init__(
        self,
        slices: Sequence[Slice],
        crops: Sequence[Mapping[str, Any]],
        *,
        seed: int = 0,
        window: Window | Sequence[float] = "auto",
        side: int | None = 256,
        orientation: Orientation = "LP",
    ) -> None:
        self.counts = [int(kind["count"]) for kind in crops]
        self.transforms: list[Compose] = [kind["transform"] for kind in crops]
        if sum(self.counts) < 2 or min(self.counts, default=0) < 1:
            message = f"crops: expected at least 2 of each slice, got counts of {self.counts}. Change crops."
            raise ConfigError(message)
        if orientation not in ("LP", "RA"):
            message = f'orientation: expected "LP" or "RA", got {orientation!r}.'
            raise ConfigError(message)
        self.seed = seed
        self.slices = list(slices)
        chosen: Window = window if isinstance(window, str) else (float(window[0]), float(window[1]))
        self._images = _read_all(self.slices, window=chosen, side=side, orientation=orientation)

    def __len__(self) -> int:
        return len(self.slices)

    def __getitem__(self, key: Any) -> dict[str, Any]:
        item, position = key if isinstance(key, SampleKey) else (key, key)
        image = torch.from_numpy(self._images[item])[None] / 255.0
        views: list[Tensor] = []
        for count, transform in zip(self.counts, self.transforms, strict=True):
            for _ in range(count):
                transform.set_random_state(seed=derive_seed(self.seed, "crops", position, len(views)))
                views.append(torch.as_tensor(transform(image)).as_subclass(Tensor).contiguous())
        source = self.slices[item]
        return {"views": views, "case_id": source["case_id"], "slice": source["slice"]}


def _read_all(
    slices: Sequence[Slice], *, window: Window, side: int | None, orientation: Orientation
) -> list[npt.NDArray[np.uint8]]:
    """Return the image (X, Y) of each slice, reading each file once."""
    by_case: dict[str, list[int]] = {}
    for index, source in enumerate(slices):
        by_case.setdefault(source["case_id"], []).append(index)
    readings = []
    for case_id, indices in by_case.items():
        path = Path(slices[indices[0]]["image"])
        case, modality = Case(id=case_id, image=(path.name,)), slices[indices[0]]["modality"]
        task = ItemTask(root=path.parent, case=case, modality=modality, window=window)
        readings.append(_Reading(task, tuple(slices[index]["slice"] for index in indices), side, orientation))
    _require_memory(len(slices), side)
    workers = default_workers(reading.task.root / reading.task.case.image[0] for reading in readings)
    images: list[Any] = [None] * len(slices)
    outcomes = map_isolated(_read_one, readings, workers=workers)
    for (case_id, indices), outcome in zip(by_case.items(), outcomes, strict=True):
        if isinstance(outcome, Exception):
            reason = outcome.text if isinstance(outcome, MedsslError) else str(outcome)
            text = f"case {case_id}: expected readable slices, found: {reason}"
            raise ImageError(text, fix="Run medssl check on the manifest; repair the case or take it out.") from outcome
        for index, image in zip(indices, outcome, strict=True):
            images[index] = image
    return images


def _read_one(reading: _Reading) -> list[npt.NDArray[np.uint8]]:
    grey = read_grey(reading.task)
    missing = [number for number in reading.numbers if number >= len(grey)]
    if missing:
        text = f"expected a slice {missing[0]}, found {len(grey)} slices: the file changed since it was reduced."
        raise ImageError(text, fix="Reduce the manifest again.", code="slice-missing")
    chosen = _shrunk(grey[list(reading.numbers)], reading.side)
    # Rows and columns become x and y. Volumes are read with rows to anterior and columns to the right
    if reading.orientation == "LP" and not is_image_file(reading.task.case.image[0]):
        chosen = chosen[:, ::-1, ::-1]
    return [np.ascontiguousarray(plane.T) for plane in chosen]


def _shrunk(grey: Grey, side: int | None) -> Grey:
    rows, columns = grey.shape[1:]
    if side is None or min(rows, columns) <= side:
        return grey
    factor = side / min(rows, columns)
    return thumbnails(grey, rows=round(rows * factor), columns=round(columns * factor))


def _require_memory(count: int, side: int | None) -> None:
    """Refuse more slices than free memory holds; those that are kept whole are known only once they are read."""
    needed = count * (side or 0) ** 2
    free = int(psutil.virtual_memory().available)
    if needed > _MEMORY_SHARE * free:
        text = f"{count} slices of {side} x {side} need {needed / 2**30:.1f} GiB, {free / 2**30:.1f} GiB are free."
        raise ResourceError(text, fix="Reduce the slices (medssl reduce), or lower side.", code="memory")
