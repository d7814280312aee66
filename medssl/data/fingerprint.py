"""The fingerprint of a data set: spacings, shapes, label shares and intensities, as one readable file.

Intensities come from evenly spaced voxels, so memory is bounded and the result does not depend on the machine.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import numpy.typing as npt

from medssl.core.errors import ConfigError
from medssl.core.findings import Finding, finding_from
from medssl.data.case_checks import count_label_values, require_same_grid
from medssl.data.manifest import Case, Manifest, Part, resolve_image, resolve_label
from medssl.data.volumes import Header, read_header, read_volume
from medssl.data.workers import default_workers, map_isolated

# Voxels of all cases together from which intensities are taken: 64 MiB as float32 for each channel and region.
_SAMPLED_VOXELS = 16 * 2**20
_MOST_PER_CASE = 20_000

Triple = tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Distribution of a quantity along the axes right-left, posterior-anterior, inferior-superior."""

    minimum: Triple
    percentile_10: Triple
    median: Triple
    percentile_90: Triple
    maximum: Triple


@dataclass(frozen=True, kw_only=True)
class Intensity:
    """Distribution of the intensities of one channel in one region; each case weighs about the same."""

    mean: float
    standard_deviation: float
    percentile_00_5: float
    median: float
    percentile_99_5: float


@dataclass(frozen=True, kw_only=True)
class CaseShape:
    """Grid of one case as stored."""

    id: str
    shape: tuple[int, int, int]
    spacing_mm: Triple
    orientation: str


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """What a plan for training needs to know about a data set.

    Attributes:
        manifest_sha256: Hash of the manifest it was made from.
        part: Part of the manifest that was read.
        channels: Image files of each case.
        spacing_mm: Voxel size, axes brought into the order of RAS.
        shape: Voxels, axes brought into the order of RAS.
        labels: Names of the label values.
        label_voxels: Voxels of each label value in all cases, by value.
        label_share: The same as share of all voxels.
        label_cases: Cases that hold the label value.
        foreground: Intensity of each channel inside labels above 0; None without labels.
        nonzero: Intensity of each channel where it is not 0.
        cases: Grid of each case that was read.
        left_out: Ids of the cases that could not be read.
    """

    manifest_sha256: str
    part: str
    channels: int
    spacing_mm: Spread
    shape: Spread
    labels: dict[str, str]
    label_voxels: dict[str, int]
    label_share: dict[str, float]
    label_cases: dict[str, int]
    foreground: tuple[Intensity, ...] | None
    nonzero: tuple[Intensity, ...]
    cases: tuple[CaseShape, ...]
    left_out: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the fingerprint as plain JSON values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class _Task:
    root: Path
    case: Case
    most: int


@dataclass(frozen=True, kw_only=True)
class _Measured:
    header: Header
    label_voxels: Counter[int] = field(default_factory=Counter)
    foreground: list[npt.NDArray[np.float32]] = field(default_factory=list)
    nonzero: list[npt.NDArray[np.float32]] = field(default_factory=list)


def fingerprint(
    manifest: Manifest, root: Path, *, part: Part = "training", workers: int | None = None
) -> tuple[Fingerprint, list[Finding]]:
    """Measure one part of a data set.

    Reads every file once, about as long as `check_manifest` takes. Unreadable cases are left out and reported.

    Args:
        manifest: The data set.
        root: Folder that its paths start from.
        part: Part to measure; labels of `unlabeled` are not read.
        workers: Processes; None chooses by the size of the images, 0 uses this process. The result is the same.

    Returns:
        The fingerprint and the findings on the cases left out, in the order of the manifest.

    Raises:
        ConfigError: If no case of the part can be read.
    """
    cases = manifest.part(part)
    if part == "unlabeled":
        cases = tuple(case.model_copy(update={"label": None}) for case in cases)
    most = min(_MOST_PER_CASE, max(100, _SAMPLED_VOXELS // max(1, len(cases))))
    tasks = [_Task(root=root, case=case, most=most) for case in cases]
    count = default_workers(root / path for case in cases for path in case.image) if workers is None else workers
    outcomes = list(zip(cases, map_isolated(_measure, tasks, workers=count), strict=True))
    findings = [
        finding_from(outcome, case=case.id, where=case.image[0])
        for case, outcome in outcomes
        if isinstance(outcome, Exception)
    ]
    measured = [(case, outcome) for case, outcome in outcomes if not isinstance(outcome, Exception)]
    usual = Counter(len(case.image) for case, _ in measured)
    if not measured:
        first = f" The first: {findings[0].text}" if findings else ""
        message = f"expected readable cases in {part}, found none of {len(cases)}.{first} Run medssl check."
        raise ConfigError(message)
    if len(usual) > 1:
        message = f"expected one number of channels in {part}, found {sorted(usual)}. Run medssl check."
        raise ConfigError(message)
    return _join(manifest, part, measured, left_out=[finding.case or "" for finding in findings]), findings


def _measure(task: _Task) -> _Measured:
    """Read one case, a channel at a time; sample it inside its labels and where it is not zero."""
    images, label_file = resolve_image(task.root, task.case), resolve_label(task.root, task.case)
    header = read_header(images[0])
    measured = _Measured(header=header)
    label = None
    if label_file is not None:
        label = read_volume(label_file)
        require_same_grid(header, label.header, "label")
        measured.label_voxels.update(count_label_values(label))
    for path in images:
        volume = read_volume(path)
        require_same_grid(header, volume.header, "channel")
        if label is not None:
            measured.foreground.append(_sample(volume.voxels, label.voxels > 0, task.most))
        measured.nonzero.append(_sample(volume.voxels, volume.voxels != 0, task.most))
    return measured


def _sample(voxels: npt.NDArray[Any], region: npt.NDArray[np.bool_], most: int) -> npt.NDArray[np.float32]:
    """Take at most `most` voxels of a region, evenly spaced in storage order."""
    total = int(np.count_nonzero(region))
    wanted = np.linspace(0, total - 1, min(most, total)).round().astype(np.int64)
    # Slice by slice: a list of all positions would take eight times the memory of the mask
    taken: list[npt.NDArray[np.float32]] = []
    start = 0
    for k in range(voxels.shape[2]):
        values = voxels[:, :, k][region[:, :, k]]
        first, last = np.searchsorted(wanted, [start, start + values.size])
        taken.append(values[wanted[first:last] - start].astype(np.float32))
        start += values.size
    return np.concatenate(taken)


def _join(
    manifest: Manifest, part: Part, measured: Sequence[tuple[Case, _Measured]], *, left_out: list[str]
) -> Fingerprint:
    voxels: Counter[int] = Counter()
    present: Counter[int] = Counter()
    for _, item in measured:
        voxels.update(item.label_voxels)
        present.update(item.label_voxels.keys())
    total = sum(voxels.values())
    channels = range(len(measured[0][0].image))
    labelled = [item for _, item in measured if item.foreground]
    inside = [_intensity([item.foreground[channel] for item in labelled]) for channel in channels]
    nonzero = [_intensity([item.nonzero[channel] for _, item in measured]) for channel in channels]
    return Fingerprint(
        manifest_sha256=manifest.sha256(),
        part=part,
        channels=len(channels),
        spacing_mm=_spread([_in_ras_order(item.header, item.header.spacing_mm) for _, item in measured]),
        shape=_spread([_in_ras_order(item.header, item.header.shape) for _, item in measured]),
        labels=dict(manifest.labels),
        label_voxels={str(value): voxels[value] for value in sorted(voxels)},
        label_share={str(value): voxels[value] / total for value in sorted(voxels)},
        label_cases={str(value): present[value] for value in sorted(voxels)},
        foreground=None if None in inside else tuple(item for item in inside if item is not None),
        nonzero=tuple(item or _intensity_of_nothing() for item in nonzero),
        cases=tuple(_case_shape(case, item.header) for case, item in measured),
        left_out=tuple(left_out),
    )


def _case_shape(case: Case, header: Header) -> CaseShape:
    return CaseShape(id=case.id, shape=header.shape, spacing_mm=header.spacing_mm, orientation=header.orientation)


def _in_ras_order(header: Header, values: Sequence[float]) -> list[float]:
    axes = nib.io_orientation(header.affine)[:, 0].astype(int)
    ordered = [0.0, 0.0, 0.0]
    for axis, value in zip(axes, values, strict=True):
        ordered[axis] = float(value)
    return ordered


def _spread(rows: Sequence[Sequence[float]]) -> Spread:
    minimum, low, median, high, maximum = (
        (float(first), float(second), float(third))
        for first, second, third in np.percentile(np.asarray(rows), [0, 10, 50, 90, 100], axis=0)
    )
    return Spread(minimum=minimum, percentile_10=low, median=median, percentile_90=high, maximum=maximum)


def _intensity(samples: Sequence[npt.NDArray[np.float32]]) -> Intensity | None:
    values = np.concatenate(samples) if samples else np.empty(0, np.float32)
    if values.size == 0:
        return None
    low, median, high = np.percentile(values, [0.5, 50, 99.5])
    return Intensity(
        mean=float(values.mean(dtype=np.float64)),
        standard_deviation=float(values.std(dtype=np.float64)),
        percentile_00_5=float(low),
        median=float(median),
        percentile_99_5=float(high),
    )


def _intensity_of_nothing() -> Intensity:
    """Describe a channel that is zero everywhere."""
    return Intensity(mean=0.0, standard_deviation=0.0, percentile_00_5=0.0, median=0.0, percentile_99_5=0.0)
