"""One case: read the reference and the prediction, check that they belong together, score every class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medssl.core.errors import ImageError, MedsslError
from medssl.core.files import sha256_file
from medssl.core.findings import Finding, finding_from
from medssl.data.case_checks import require_same_grid
from medssl.data.volumes import Header, read_volume
from medssl.metrics import METRICS, StructureScore, score_structures
from medssl.metrics.structures import LabelMap, label_boxes


@dataclass(frozen=True, kw_only=True)
class CaseJob:
    """All that a worker process needs to score one case.

    Attributes:
        id: Case id.
        group: Ordinal of the patient (g001), never the patient.
        reference: Label map of the reference.
        prediction: Label map of the prediction.
        classes: For each class its value in the reference and in the prediction.
        reference_values: Values that the manifest knows.
        prediction_values: Values that the predictions' own labels know.
        tolerance_mm: Tolerance of the surface Dice.
        stated_sha256: Hash of the prediction that run.json states, if any.
        areas: `surfel_areas` of the reference's spacing, so that a worker need not import MONAI.
    """

    id: str
    group: str
    reference: Path
    prediction: Path
    classes: Mapping[str, tuple[int, int]]
    reference_values: frozenset[int]
    prediction_values: frozenset[int]
    tolerance_mm: float
    stated_sha256: str | None = None
    areas: NDArray[np.float64] | None = None


@dataclass(frozen=True, kw_only=True)
class CaseResult:
    """Scores of one case, or the findings that say why there are none.

    Attributes:
        id: Case id.
        group: Ordinal of the patient.
        scores: Score of each class; empty if the case could not be scored.
        findings: What was noticed.
        hashes: SHA-256 of the files that were compared.
    """

    id: str
    group: str
    scores: Mapping[str, StructureScore] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)

    def mean(self, metric: str) -> float | None:
        """Return the mean of a metric over the classes where it is defined, or None."""
        values = [value for score in self.scores.values() if (value := getattr(score, metric)) is not None]
        return sum(values) / len(values) if values else None

    def to_json(self) -> dict[str, Any]:
        """Return a scored case as plain JSON values."""
        return {
            "id": self.id,
            "group": self.group,
            **self.hashes,
            "classes": {name: score.to_json() for name, score in self.scores.items()},
            "mean": {metric: self.mean(metric) for metric in METRICS[:3]},
        }


def score_case(job: CaseJob) -> CaseResult:
    """Score one case; whatever goes wrong becomes a finding, so that no case stops the others."""
    try:
        return _score(job)
    except Exception as error:  # a defect or exhausted memory in one case must not take the batch with it
        return failed_case(job, finding_from(error, case=job.id))


def failed_case(job: CaseJob, finding: Finding) -> CaseResult:
    """Return the result of a case that could not be scored."""
    return CaseResult(id=job.id, group=job.group, findings=(finding,))


def _score(job: CaseJob) -> CaseResult:
    reference, grid = read_labels(job.reference, "reference")
    prediction, predicted_grid = read_labels(job.prediction, "prediction")
    require_same_grid(grid, predicted_grid, "prediction")
    require_known_values(reference, "reference", job.reference_values)
    require_known_values(prediction, "prediction", job.prediction_values)
    hashes = {"reference_sha256": sha256_file(job.reference), "prediction_sha256": sha256_file(job.prediction)}
    scores = score_structures(
        reference,
        prediction,
        classes=job.classes,
        spacing_mm=grid.spacing_mm,
        tolerance_mm=job.tolerance_mm,
        areas=job.areas,
    )
    return CaseResult(
        id=job.id, group=job.group, scores=scores, findings=_altered(job, hashes["prediction_sha256"]), hashes=hashes
    )


def _altered(job: CaseJob, found: str) -> tuple[Finding, ...]:
    if job.stated_sha256 in (None, found):
        return ()
    text = "the label map is not the one that run.json describes: its hash differs. It was scored as it is."
    fix = "Predict the case again, unless the label map was edited on purpose."
    return (Finding(code="prediction-altered", severity="warning", case=job.id, text=text, fix=fix),)


def read_labels(path: Path, role: str) -> tuple[LabelMap, Header]:
    """Read a label map and its header; all values are whole numbers from 0 to 65535.

    Raises:
        MedsslError: If it cannot be read or holds anything else; the code begins with the role.
    """
    try:
        volume = read_volume(path, finite=False)
    except MedsslError as error:
        code = f"{role}-missing" if error.code == "file-missing" else f"{role}-unreadable"
        raise ImageError(f"{role} {error.text}", fix=error.fix, code=code) from error
    labels = _whole_numbers(volume.voxels)
    if labels is None:
        text = f"{role} {path.name}: expected whole numbers from 0 to 65535, found others ({volume.voxels.dtype})."
        fix = "Write the label map as integers, without interpolation."
        raise ImageError(text, fix=fix, code=f"{role}-labels")
    return labels, volume.header


def _whole_numbers(values: NDArray[Any]) -> LabelMap | None:
    """Return a label map as uint8 or uint16, or None if it holds anything but whole numbers from 0 to 65535."""
    if values.dtype == np.uint8:
        return values
    low, high = values.min(), values.max()
    if not (low >= 0 and high <= np.iinfo(np.uint16).max):  # also refuses NaN
        return None
    labels: LabelMap = values.astype(np.uint8 if high <= np.iinfo(np.uint8).max else np.uint16)
    # one slice at a time, so that no float copy of the volume is made
    if values.dtype.kind == "f" and any((labels[..., k] != values[..., k]).any() for k in range(values.shape[-1])):
        return None
    return labels


def require_known_values(labels: LabelMap, role: str, known: frozenset[int]) -> None:
    """Refuse a label map with values that nobody named.

    Raises:
        ImageError: If there are any; the code begins with the role.
    """
    unknown = sorted(set(label_boxes(labels)) - known)
    if unknown:
        found, names = (", ".join(map(str, values)) for values in (unknown[:8], sorted(known | {0})))
        text = f"the {role} holds label values {found}; known are {names}."
        raise ImageError(text, fix="Add them to the labels, or write the label map again.", code=f"{role}-labels")
