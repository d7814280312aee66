"""What a manifest holds: cases by part, and the spread of size and spacing, without anything that names a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medssl.core.errors import MedsslError
from medssl.core.findings import Finding
from medssl.data.images import is_image_file
from medssl.data.manifest import PARTS, Case, resolve_image
from medssl.data.volumes import Header, read_header
from medssl.reports.sources import ManifestFile

MOST_HEADERS = 500
_AXES = ("first axis", "second axis", "third axis")
_PART_NAMES = {"training": "Training", "unlabeled": "Unlabelled", "validation": "Validation", "test": "Test"}


@dataclass(frozen=True, kw_only=True)
class PartRow:
    """How many cases one part has."""

    name: str
    cases: int
    labelled: int
    patients: int | None
    sites: int | None


@dataclass(frozen=True, kw_only=True)
class SpreadRow:
    """The spread of one quantity over the cases."""

    name: str
    low: str
    median: str
    high: str


@dataclass(frozen=True, kw_only=True)
class DatasetSummary:
    """The section on one manifest."""

    name: str
    description: str | None
    modality: str
    licence: str | None
    labels: tuple[tuple[str, str], ...]
    parts: tuple[PartRow, ...]
    spread: tuple[SpreadRow, ...]
    headers_read: int
    cases: int
    findings: tuple[Finding, ...]


def summarise_dataset(source: ManifestFile) -> DatasetSummary:
    """Count the cases of a manifest and read the headers of at most `MOST_HEADERS` images, evenly spaced."""
    manifest = source.manifest
    cases = [case for _, case in manifest.cases()]
    headers, findings = _read_headers(source, _evenly(cases, MOST_HEADERS))
    return DatasetSummary(
        name=manifest.name,
        description=manifest.description,
        modality=manifest.modality,
        licence=manifest.licence,
        labels=tuple((str(value), manifest.labels[str(value)]) for value in manifest.label_values()),
        parts=tuple(_count(_PART_NAMES[part], manifest.part(part)) for part in PARTS if manifest.part(part)),
        spread=_spread(headers),
        headers_read=len(headers),
        cases=len(cases),
        findings=tuple(findings),
    )


def _count(name: str, cases: Sequence[Case]) -> PartRow:
    patients = {case.patient for case in cases}
    sites = {case.site for case in cases}
    return PartRow(
        name=name,
        cases=len(cases),
        labelled=sum(case.label is not None for case in cases),
        patients=None if None in patients else len(patients),
        sites=None if None in sites else len(sites),
    )


def _evenly(cases: list[Case], most: int) -> list[Case]:
    if len(cases) <= most:
        return cases
    return [cases[int(index)] for index in np.linspace(0, len(cases) - 1, most)]


def _read_headers(source: ManifestFile, cases: Sequence[Case]) -> tuple[list[Header], list[Finding]]:
    headers, findings = [], []
    for case in cases:
        if is_image_file(case.image[0]):
            continue  # without voxels in mm
        try:
            header = read_header(resolve_image(source.root, case)[0])
        except MedsslError as error:
            fix = "Check the path and --data-root."
            findings.append(
                Finding(code="image-unreadable", severity="warning", case=case.id, text=str(error), fix=fix)
            )
        else:
            headers.append(header)
    return headers, findings


def _spread(headers: Sequence[Header]) -> tuple[SpreadRow, ...]:
    if not headers:
        return ()
    sizes = np.array([header.shape for header in headers])
    spacings = np.array([header.spacing_mm for header in headers])
    rows = [_row(f"Size, {axis} (voxels)", sizes[:, index], "{:.0f}") for index, axis in enumerate(_AXES)]
    rows += [_row(f"Spacing, {axis} (mm)", spacings[:, index], "{:.2f}") for index, axis in enumerate(_AXES)]
    return tuple(rows)


def _row(name: str, values: np.ndarray, form: str) -> SpreadRow:
    low, median, high = (form.format(value) for value in (values.min(), np.median(values), values.max()))
    return SpreadRow(name=name, low=low, median=median, high=high)
