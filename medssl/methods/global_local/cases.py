"""Which volumes a contrastive pre-training sees: images alone, of one orientation, long enough for every partition."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import nibabel as nib
import numpy as np

from medssl.core.errors import ConfigError, GeometryError
from medssl.data.datasets import CaseDict, image_cases
from medssl.data.volumes import Header, read_header


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
        ConfigError: If there are no volumes, or one where several are needed.
        GeometryError: If volumes are shorter than the partitions, or orientations are mixed and refused.
    """
    cases = image_cases(manifest=manifest, data_root=data_root, parts=parts)
    if not cases or (len(cases) == 1 and across_volumes):
        found = f"only case {cases[0]['case_id']}" if cases else "none"
        message = (
            f"{manifest}: expected at least {2 if across_volumes else 1} volumes in {' and '.join(parts)}, found "
            f"{found}. Slices of one partition can be compared only between volumes: add some, or use strategy GR "
            "and LR."
        )
        raise ConfigError(message)
    headers = [(case["case_id"], read_header(Path(_first(case)))) for case in cases]
    if orientation == "refuse":
        _refuse_mixed(headers)
    for case_id, header in headers:
        _require_length(case_id, header, cells)
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
            f"orientation: expected {usual} as in {counts[usual]} volumes, found others in: {', '.join(others[:5])}. "
            'Repair them, or set orientation to "reorient" if their headers are right.'
        )
        raise GeometryError(message)


def _require_length(case_id: str, header: Header, cells: Sequence[int]) -> None:
    """Refuse a volume with fewer slices than partitions along an axis of RAS."""
    axes = nib.orientations.io_orientation(header.affine)[:, 0].astype(int)
    shape = [0, 0, 0]
    for own, world in enumerate(axes):
        shape[world] = header.shape[own]
    for name, extent, count in zip(("LR", "AP", "SI"), np.asarray(shape), cells, strict=True):
        if count > 1 and extent < count:
            message = (
                f"case {case_id}: expected at least {count} slices along {name}, one for each partition, found "
                f"{extent} in {header.path.name}. Take the case out, or use fewer cells."
            )
            raise GeometryError(message)
