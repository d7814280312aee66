"""Score a folder of detection maps against the lesions of a manifest, through picai_eval."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from medssl.core.errors import ConfigError
from medssl.core.findings import Finding, finding_from
from medssl.data.manifest import Case, Manifest, Part
from medssl.data.workers import default_workers, map_isolated
from medssl.evaluation.detection_case import (
    DETECTION_SUFFIX,
    DetectionCase,
    DetectionJob,
    picai_eval,
    score_detection,
)
from medssl.evaluation.detection_summary import DetectionEvaluation
from medssl.evaluation.predictions import PredictionFolder, open_predictions
from medssl.evaluation.scored_cases import (
    has_lesion_reference,
    label_path,
    labelled_cases,
    of_other_runs,
    without_patient,
    without_reference,
)
from medssl.evaluation.summary import ordinal_groups
from medssl.metrics.lesion_matching import MINIMUM_OVERLAP

_LOGGER = logging.getLogger("medssl.evaluation")

_ROUNDING = 1e-9


def evaluate_detections(
    manifest: Manifest,
    *,
    root: Path,
    predictions: Path,
    part: Part = "test",
    minimum_overlap: float = MINIMUM_OVERLAP,
    workers: int | None = None,
    seed: int = 0,
) -> DetectionEvaluation:
    """Score the detection maps `<case id>_detection_map.nii.gz` of a folder on the grid of the references.

    A case without a label map counts as negative if its class in the manifest is 0. A case that cannot be scored
    becomes a finding and stays in the result as failed. At most `workers` cases are in memory at once.

    Args:
        manifest: The dataset; one class besides background.
        root: Folder that the manifest's paths start from.
        predictions: Folder with detection maps, and run.json if medssl infer wrote them.
        part: Part of the manifest to score.
        minimum_overlap: Intersection over union from which a candidate can match a lesion.
        workers: Number of processes; None chooses by the size of the work.
        seed: Seed of the bootstrap.

    Raises:
        ConfigError: If the part has no case with a reference, the folder is missing, the manifest does not have one
            class, or the overlap is no share.
        DependencyError: If picai_eval is not installed.
        ManifestError: If a label path leaves `root`.
    """
    if not 0 < minimum_overlap <= 1:
        message = f"minimum overlap: expected a share above 0, up to 1, found {minimum_overlap}. The usual one is 0.1."
        raise ConfigError(message)
    picai_eval()  # before the work begins
    lesion = _only_class(manifest)
    folder = open_predictions(predictions)
    cases = labelled_cases(manifest, part, counts_as=has_lesion_reference)
    findings = without_reference(manifest.part(part), counts_as=has_lesion_reference)
    findings += without_patient(cases) + of_other_runs(cases, folder, suffix=DETECTION_SUFFIX)
    jobs = _jobs(cases, manifest, folder, root=root, minimum_overlap=minimum_overlap)
    scored = _score_all(jobs, folder, workers=workers)
    findings += [finding for case in scored for finding in case.findings]
    _LOGGER.info("scored %d of %d cases", sum(case.match is not None for case in scored), len(scored))
    evaluation = DetectionEvaluation(lesion=lesion, minimum_overlap=minimum_overlap, seed=seed, cases=tuple(scored))
    findings += differences_to_picai_eval(evaluation)
    return replace(evaluation, findings=tuple(findings))


def differences_to_picai_eval(evaluation: DetectionEvaluation) -> list[Finding]:
    """Compute AUROC and AP by picai_eval too; find a difference, which would be a defect."""
    metrics = evaluation.metrics
    matches = {case.id: case.match for case in evaluation.scored if case.match is not None}
    if metrics["auroc"].value is None and metrics["ap"].value is None:
        return []
    reference = picai_eval().Metrics(
        lesion_results={name: match.entries for name, match in matches.items()},
        case_target={name: int(match.lesions > 0) for name, match in matches.items()},
        case_pred={name: match.confidence for name, match in matches.items()},
    )
    findings = []
    for name, find in (("auroc", reference.calc_auroc), ("ap", reference.calc_AP)):
        value = metrics[name].value
        if value is not None and abs(value - float(find())) > _ROUNDING:
            text = f"{name}: expected the value of picai_eval, {float(find()):.9f}, found {value:.9f}."
            fix = "Report this as a defect of medssl."
            findings.append(Finding(code="metrics", severity="error", text=text, fix=fix))
    return findings


def _only_class(manifest: Manifest) -> str:
    names = [manifest.labels[str(value)] for value in manifest.label_values() if value != 0]
    if len(names) != 1:
        message = (
            f"manifest {manifest.name!r}: expected one class besides background, the lesion to detect, found "
            f"{', '.join(names) or 'none'}. Detection is scored for one class; write a manifest with that alone."
        )
        raise ConfigError(message)
    return names[0]


def _jobs(
    cases: Sequence[Case], manifest: Manifest, folder: PredictionFolder, *, root: Path, minimum_overlap: float
) -> list[DetectionJob]:
    groups = ordinal_groups([case.group for case in cases])
    return [
        DetectionJob(
            id=case.id,
            group=group,
            fold=case.fold,
            reference=None if case.label is None else label_path(root, case),
            prediction=folder.path(case.id, suffix=DETECTION_SUFFIX),
            reference_values=frozenset(manifest.label_values()),
            minimum_overlap=minimum_overlap,
            stated_sha256=folder.stated_sha256(case.id, f"{case.id}{DETECTION_SUFFIX}"),
            stated_positive=bool(case.class_) if case.class_ in (0, 1) else None,
        )
        for case, group in zip(cases, groups, strict=True)
    ]


def _score_all(jobs: Sequence[DetectionJob], folder: PredictionFolder, *, workers: int | None) -> list[DetectionCase]:
    """Score all jobs but those that run.json gives up; what lies there for them is from an earlier run."""
    promising = [job for job in jobs if folder.failure(job.id) is None]
    files = [path for job in promising for path in (job.reference, job.prediction) if path is not None]
    chosen = default_workers(files) if workers is None else workers
    outcomes = map_isolated(score_detection, promising, workers=chosen if chosen > 1 else 0)
    by_id = {
        job.id: _failed(job, finding_from(outcome, case=job.id)) if isinstance(outcome, Exception) else outcome
        for job, outcome in zip(promising, outcomes, strict=True)
    }
    return [by_id.get(job.id) or _given_up(job, str(folder.failure(job.id))) for job in jobs]


def _failed(job: DetectionJob, finding: Finding) -> DetectionCase:
    return DetectionCase(id=job.id, group=job.group, fold=job.fold, findings=(finding,))


def _given_up(job: DetectionJob, reason: str) -> DetectionCase:
    text = f"run.json says that the prediction failed: {reason}"
    fix = "Predict the case again, or take it out of this part of the manifest."
    return _failed(job, Finding(code="prediction-missing", severity="error", case=job.id, text=text, fix=fix))
