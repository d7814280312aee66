"""Score a folder of segmentations against a manifest, or arrays in memory against each other."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import psutil

from medssl.core.cores import usable_cores
from medssl.core.errors import ConfigError, MedsslError
from medssl.core.findings import Finding, finding_from
from medssl.data.manifest import Manifest, Part
from medssl.data.volumes import Header, read_header
from medssl.data.workers import map_isolated
from medssl.evaluation.case import CaseJob, CaseResult, failed_case, score_case
from medssl.evaluation.predictions import PredictionFolder, match_labels, open_predictions
from medssl.evaluation.scored_cases import (
    label_path,
    labelled_cases,
    of_other_runs,
    without_patient,
    without_reference,
)
from medssl.evaluation.summary import Evaluation, ordinal_groups
from medssl.metrics import score_structures, surfel_areas
from medssl.metrics.structures import LabelMap
from medssl.metrics.surface import Spacing

_LOGGER = logging.getLogger("medssl.evaluation")

# Below this many voxels in all, starting worker processes costs more than it saves.
_WORTH_PROCESSES = 40_000_000
# Two label maps as stored (up to 8 bytes a voxel while one is read) and the surfaces of the largest class.
_BYTES_PER_VOXEL = 16


@dataclass(frozen=True, kw_only=True)
class ArrayCase:
    """One case in memory, for scoring inside a training or fine-tuning run.

    Attributes:
        id: Case id.
        group: The patient, or whatever belongs together; replaced by an ordinal in every output.
        reference: Integer label map (X, Y, Z).
        prediction: Integer label map on the same grid.
        spacing_mm: Voxel sizes along the array axes.
    """

    id: str
    group: str
    reference: LabelMap
    prediction: LabelMap
    spacing_mm: Spacing


def evaluate_arrays(
    cases: Iterable[ArrayCase], *, labels: Mapping[str, str], tolerance_mm: float = 1.0, seed: int = 0
) -> Evaluation:
    """Score label maps in memory; `cases` may be a generator, only one case is held at a time.

    Args:
        cases: References with their predictions.
        labels: Label value (as a string) to class name, as in a manifest; "0" is background.
        tolerance_mm: Distance that counts as agreement in the surface Dice.
        seed: Seed of the bootstrap.

    Raises:
        ConfigError: If `tolerance_mm` is no positive length.
        ValueError: If the two label maps of a case differ in shape.
    """
    _require_length(tolerance_mm)
    foreground = _foreground(labels)
    classes = {name: (int(value), int(value)) for value, name in foreground.items()}
    names, results = [], []
    for case in cases:
        scores = score_structures(
            case.reference, case.prediction, classes=classes, spacing_mm=case.spacing_mm, tolerance_mm=tolerance_mm
        )
        names.append(case.group)
        results.append((case.id, scores))
    scored = [
        CaseResult(id=case_id, group=group, scores=scores)
        for (case_id, scores), group in zip(results, ordinal_groups(names), strict=True)
    ]
    return Evaluation(labels=foreground, tolerance_mm=tolerance_mm, seed=seed, cases=tuple(scored))


def evaluate_segmentations(
    manifest: Manifest,
    *,
    root: Path,
    predictions: Path,
    part: Part = "test",
    tolerance_mm: float = 1.0,
    workers: int | None = None,
    seed: int = 0,
) -> Evaluation:
    """Score the label maps `<case id>.nii.gz` of a folder on the native grid of the references.

    Nothing is resampled: a prediction on another grid is a finding. Labels are matched by name where the folder's
    run.json names them. A case that cannot be scored becomes a finding and stays in the result as failed. At most
    `workers` cases are in memory at once.

    Args:
        manifest: The dataset.
        root: Folder that the manifest's paths start from.
        predictions: Folder with label maps, and run.json if medssl infer wrote them.
        part: Part of the manifest to score.
        tolerance_mm: Distance that counts as agreement in the surface Dice.
        workers: Number of processes; None chooses by the size of the work, the cores and the free memory.
        seed: Seed of the bootstrap.

    Raises:
        ConfigError: If the part has no labelled case, the folder is missing, class names do not match or
            `tolerance_mm` is no positive length.
        ManifestError: If a label path leaves `root`.
    """
    _require_length(tolerance_mm)
    folder = open_predictions(predictions)
    classes, findings = match_labels(manifest, folder)
    labelled = labelled_cases(manifest, part)
    findings += without_reference(manifest.part(part)) + without_patient(labelled) + of_other_runs(labelled, folder)
    headers = [_header(label_path(root, case)) for case in labelled]
    job = partial(
        CaseJob,
        classes=classes,
        reference_values=frozenset(manifest.label_values()),
        prediction_values=frozenset(folder.labels or manifest.label_values()),
        tolerance_mm=tolerance_mm,
    )
    jobs = [
        job(
            id=case.id,
            group=group,
            reference=label_path(root, case),
            prediction=folder.path(case.id),
            stated_sha256=folder.stated_sha256(case.id),
            areas=None if header is None else surfel_areas(header.spacing_mm),
        )
        for case, group, header in zip(labelled, ordinal_groups([c.group for c in labelled]), headers, strict=True)
    ]
    voxels = [0 if header is None else math.prod(header.shape) for header in headers]
    cases = _score_all(jobs, folder, workers=workers or _choose_workers(voxels))
    findings += [finding for case in cases for finding in case.findings]
    _LOGGER.info("scored %d of %d cases", sum(bool(case.scores) for case in cases), len(cases))
    labels = _foreground(manifest.labels)
    return Evaluation(labels=labels, tolerance_mm=tolerance_mm, seed=seed, cases=tuple(cases), findings=tuple(findings))


def _score_all(jobs: Sequence[CaseJob], folder: PredictionFolder, *, workers: int) -> list[CaseResult]:
    """Score all jobs but those that run.json gives up; what lies there for them is from an earlier run."""
    given_up = {job.id: reason for job in jobs if (reason := folder.failure(job.id)) is not None}
    promising = [job for job in jobs if job.id not in given_up]
    outcomes = map_isolated(score_case, promising, workers=workers if workers > 1 else 0)
    by_id = {
        job.id: failed_case(job, finding_from(outcome, case=job.id)) if isinstance(outcome, Exception) else outcome
        for job, outcome in zip(promising, outcomes, strict=True)
    }
    return [by_id.get(job.id) or _prediction_failed(job, given_up[job.id]) for job in jobs]


def _prediction_failed(job: CaseJob, reason: str) -> CaseResult:
    text = f"run.json says that the prediction failed: {reason}"
    fix = "Predict the case again, or take it out of this part of the manifest."
    return failed_case(job, Finding(code="prediction-missing", severity="error", case=job.id, text=text, fix=fix))


def _foreground(labels: Mapping[str, str]) -> dict[str, str]:
    return {value: labels[value] for value in sorted(labels, key=int) if int(value) != 0}


def _require_length(tolerance_mm: float) -> None:
    if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
        message = f"tolerance of the surface Dice: expected a length in mm of 0 or more, got {tolerance_mm}."
        raise ConfigError(message)


def _header(path: Path) -> Header | None:
    """Return what is needed to plan the work, or None; the worker that reads the case says what is wrong with it."""
    try:
        return read_header(path)
    except MedsslError:
        return None


def _choose_workers(voxels: Sequence[int]) -> int:
    """Return 1 for little work, otherwise as many processes as cores and free memory allow."""
    if sum(voxels) < _WORTH_PROCESSES:
        return 1
    free = psutil.virtual_memory().available // 2
    return max(1, min(usable_cores(), len(voxels), int(free // (max(voxels) * _BYTES_PER_VOXEL))))
