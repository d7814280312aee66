"""Which volumes a contrastive pre-training sees: images alone, of one orientation, long enough for every partition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import nibabel as nib

from medssl.core.errors import ConfigError, GeometryError
from medssl.data.datasets import CaseDict, image_cases
from medssl.data.volumes import Header, read_header

_LISTED = 5  # cases that a message names


def pretraining_cases(
    *,
    manifest: str,
    data_root: str | None = None,
    parts: Sequence[str] = ("unlabeled", "training"),
    cells: Sequence[int] = (1, 1, 4),
    across_volumes: bool = True,
    orientation: Literal["reorient", "refuse"] = "reorient",
) -> list[CaseDict]:
    """List the volumes of some parts of a manifest, without labels, for pre-training by position.

    Args:
        manifest: Manifest file.
        data_root: Folder the manifest's paths start from; the manifest's own folder by default.
        parts: Parts of the manifest that are taken.
        cells: Partitions along X, Y, Z of the orientation RAS.
        across_volumes: Whether slices of other volumes are positives, for which at least two are needed.
        orientation: "reorient" leaves mixed orientations to the preprocessing (Orientationd); "refuse" stops at them,
            for files whose orientation is not known for sure.

    Raises:
        ConfigError: If there are no volumes, one where several are needed, or `orientation` is unknown.
        GeometryError: If volumes are shorter than the partitions, or orientations are mixed and refused.
    """
    if orientation not in {"reorient", "refuse"}:
        message = f'orientation: expected "reorient" or "refuse", got {orientation!r}.'
        raise ConfigError(message)
    cases = image_cases(manifest=manifest, data_root=data_root, parts=parts)
    if not cases:
        message = f"{manifest}: expected images in {' and '.join(parts)}, found none. Add some."
        raise ConfigError(message)
    if len(cases) == 1 and across_volumes:
        message = (
            f"{manifest}: expected at least 2 volumes in {' and '.join(parts)}, found only case "
            f"{cases[0]['case_id']}. Slices of one partition can be compared only between volumes: add some, or set "
            "strategy to GR (global, with volumes_per_batch 1) or local_strategy to LR."
        )
        raise ConfigError(message)
    headers = [(case["case_id"], read_header(Path(_first(case)))) for case in cases]
    if orientation == "refuse":
        _refuse_mixed(headers)
    _refuse_short(headers, cells)
    return cases


def _first(case: CaseDict) -> str:
    image = case["image"]
    return image if isinstance(image, str) else image[0]


def _refuse_mixed(headers: Sequence[tuple[str, Header]]) -> None:
    counts = Counter(header.orientation for _, header in headers)
    usual = counts.most_common(1)[0][0]
    others = [f"{case_id} ({header.orientation})" for case_id, header in headers if header.orientation != usual]
    if others:
        message = (
            f"orientation: expected {usual} as in {counts[usual]} volumes, found others in: "
            f"{', '.join(others[:_LISTED])}. "
            'Repair them, or set orientation to "reorient" if their headers are right.'
        )
        raise GeometryError(message)


def _refuse_short(headers: Sequence[tuple[str, Header]], cells: Sequence[int]) -> None:
    """Refuse volumes with fewer slices than partitions along an axis of RAS."""
    for axis, (name, count) in enumerate(zip(("LR", "AP", "SI"), cells, strict=True)):
        extents = [(case_id, header, _extent(header, axis)) for case_id, header in headers] if count > 1 else []
        short = [f"{case_id} ({extent} in {header.path.name})" for case_id, header, extent in extents if extent < count]
        if short:
            others = f" and {len(short) - _LISTED} more" if len(short) > _LISTED else ""
            message = (
                f"cases: expected at least {count} slices along {name}, one for each partition, found fewer in "
                f"{', '.join(short[:_LISTED])}{others}. Take them out, or use fewer cells."
            )
            raise GeometryError(message)


def _extent(header: Header, axis: int) -> int:
    """Return the voxels of a file along an axis of RAS."""
    axes = nib.orientations.io_orientation(header.affine)[:, 0].astype(int)
    return header.shape[list(axes).index(axis)]
