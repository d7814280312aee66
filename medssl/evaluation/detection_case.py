"""One case of lesion detection: read the detection map and the reference, check that they fit, match the lesions."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medssl.core.errors import ImageError, MedsslError
from medssl.core.files import sha256_file
from medssl.core.findings import Finding, finding_from
from medssl.core.optional import require
from medssl.data.case_checks import require_same_grid
from medssl.data.volumes import Volume, read_volume
from medssl.evaluation.case import read_labels, require_known_values
from medssl.metrics.lesion_candidates import require_detection_map
from medssl.metrics.lesion_matching import LesionMatch, match_lesions

DETECTION_SUFFIX = "_detection_map.nii.gz"
"""What follows the case id in the name of a detection map, as in PI-CAI."""

# It adds 1 to each overlap and takes it away again
_ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class DetectionJob:
    """All that a worker process needs to score one case.

    Attributes:
        id: Case id.
        group: Ordinal of the patient (g001), never the patient.
        fold: Fold of the case in the manifest, or None.
        reference: Label map, or None for a case that is known to have no lesion.
        prediction: Detection map.
        reference_values: Values that the manifest knows.
        minimum_overlap: Intersection over union from which a candidate can match a lesion.
        stated_sha256: Hash of the detection map that run.json states, if any.
        stated_positive: Whether the manifest's class says that there is a lesion; None if it does not say.
    """

    id: str
    group: str
    fold: int | None
    reference: Path | None
    prediction: Path
    reference_values: frozenset[int]
    minimum_overlap: float
    stated_sha256: str | None = None
    stated_positive: bool | None = None


@dataclass(frozen=True, kw_only=True)
class DetectionCase:
    """What was found in one case, or the findings that say why it could not be scored."""

    id: str
    group: str
    fold: int | None = None
    match: LesionMatch | None = None
    findings: tuple[Finding, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return a scored case as plain JSON values."""
        if self.match is None:
            return {"id": self.id, "group": self.group, "fold": self.fold}
        return {
            "id": self.id,
            "group": self.group,
            "fold": self.fold,
            **self.hashes,
            "positive": self.match.lesions > 0,
            "confidence": self.match.confidence,
            "lesions": self.match.lesions,
            "found": self.match.found,
            "missed": self.match.missed,
            "missed_centres": [list(centre) for centre in self.match.missed_centres],
            "candidates": [candidate.to_json() for candidate in self.match.candidates],
        }


def score_detection(job: DetectionJob) -> DetectionCase:
    """Score one case; whatever goes wrong becomes a finding, so that no case stops the others.

    The lesions are matched here and by picai_eval, and a difference is a failure of the case.
    """
    try:
        return _score(job)
    except Exception as error:  # a defect or exhausted memory in one case must not take the batch with it
        return DetectionCase(id=job.id, group=job.group, fold=job.fold, findings=(finding_from(error, case=job.id),))


def picai_eval() -> ModuleType:
    """Import picai_eval's matching without the banner that it prints.

    Raises:
        DependencyError: If it is not installed.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        return require("picai_eval.eval", feature="medssl evaluate --task detection", extra="detection")


def _score(job: DetectionJob) -> DetectionCase:
    prediction = _read_detection_map(job.prediction)
    detection = prediction.voxels.astype(np.float32)
    hashes = {"prediction_sha256": sha256_file(job.prediction)}
    if job.reference is None:
        lesions: NDArray[Any] = np.zeros(detection.shape, dtype=np.uint8)
    else:
        reference, grid = read_labels(job.reference, "reference")
        require_same_grid(grid, prediction.header, "prediction")
        require_known_values(reference, "reference", job.reference_values)
        lesions = (reference > 0).astype(np.uint8)
        hashes["reference_sha256"] = sha256_file(job.reference)
    match = match_lesions(detection, lesions, minimum_overlap=job.minimum_overlap)
    _require_agreement(match, detection, lesions, job.minimum_overlap)
    findings = [] if job.stated_sha256 in (None, hashes["prediction_sha256"]) else [_altered(job.id)]
    if job.stated_positive not in (None, match.lesions > 0):
        findings.append(_contradicts(job, lesions=match.lesions))
    told = tuple(findings)
    return DetectionCase(id=job.id, group=job.group, fold=job.fold, match=match, findings=told, hashes=hashes)


def _read_detection_map(path: Path) -> Volume:
    try:
        volume = read_volume(path)
        require_detection_map(volume.voxels.astype(np.float32))
    except MedsslError as error:
        kind = {"file-missing": "missing", "detection-map": "map", "probability": "map"}.get(error.code, "unreadable")
        raise ImageError(
            f"prediction {path.name}: {error.text.removeprefix(f'{path.name}: ')}",
            fix=error.fix,
            code=f"prediction-{kind}",
        ) from error
    return volume


def _require_agreement(
    match: LesionMatch, detection: NDArray[np.float32], lesions: NDArray[Any], minimum_overlap: float
) -> None:
    """Hold our matching against picai_eval's on the very case that is scored.

    Raises:
        ImageError: If they differ.
    """
    entries, confidence, _, _ = picai_eval().evaluate_case(detection, lesions, min_overlap=minimum_overlap)
    ours, theirs = sorted(match.entries), sorted((int(a), float(b), float(c)) for a, b, c in entries)
    same = len(ours) == len(theirs) and np.allclose(np.array(ours), np.array(theirs), rtol=0, atol=_ROUNDING)
    if not (same and abs(match.confidence - float(confidence)) <= _ROUNDING):
        text = f"expected the matching of picai_eval, {theirs}, found {ours}."
        raise ImageError(text, fix="Report this as a defect of medssl; the case was not scored.", code="matching")


def _contradicts(job: DetectionJob, *, lesions: int) -> Finding:
    found = "no label map" if job.reference is None else f"a label map with lesions: {lesions}"
    scored = "positive" if lesions else "negative"
    text = f"class {int(not lesions)} in the manifest, but {found}, so that the exam was scored as {scored}."
    fix = "Correct the one that is wrong; an exam counts as positive if its label map has a lesion."
    return Finding(code="class-label", severity="warning", case=job.id, text=text, fix=fix)


def _altered(case: str) -> Finding:
    text = "the detection map is not the one that run.json describes: its hash differs. It was scored as it is."
    fix = "Predict the case again, unless the map was edited on purpose."
    return Finding(code="prediction-altered", severity="warning", case=case, text=text, fix=fix)
