"""Import bi-parametric prostate MRI: exams of three sequences, each brought on one grid and written as new images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medssl.core.errors import ConfigError
from medssl.core.files import sole_writer, sweep_leftovers
from medssl.core.findings import Finding, finding_from, has_errors
from medssl.data.exam_files import SEQUENCES, ExamFiles, find_exams
from medssl.data.exam_import import ExamJob, ExamResult, import_exam
from medssl.data.import_cases import CaseEntry, Imported, ImportOptions, build_manifest, relative_path
from medssl.data.manifest import id_fault
from medssl.data.workers import default_workers, map_isolated

EXAMS_FOLDER = "exams"
"""Where the new images lie below the data root."""

_LABELS = {"0": "background", "1": "significant cancer"}
_MODALITY = "bpMRI: T2W, ADC, high-b DWI"


def import_bpmri(source: Path, options: ImportOptions) -> Imported:
    """Bring the exams below a folder on one grid each and make a manifest of the results.

    Exams with a label are `training`, with class 1 if a significant lesion lies within the crop and 0 if not, and the
    others `unlabeled`. An exam that cannot be used becomes findings and the others go on; what an earlier import wrote
    from the same files is kept.

    Args:
        source: Folder with exams, see `find_exams`.
        options: What the user says; images are written below `options.root`.

    Raises:
        NothingImportedError: If no exam could be imported; it carries the findings.
        ConfigError: If there is no exam, the results would lie among the sources, or another process writes there.
    """
    found, findings = find_exams(source)
    _require_exams(source, found, options.root)
    # The ids name folders; what a manifest refuses as an id must not be written either
    unfit = {exam.id: fault for exam in found if (fault := id_fault(exam.id)) is not None}
    findings += map(_unfit_name, unfit.values())
    exams = [exam for exam in found if exam.id not in unfit]
    target = options.root / EXAMS_FOLDER
    with sole_writer(target):
        sweep_leftovers(target)
        results = _import_all(exams, target, options)
    findings += [finding for result in results for finding in result.findings]
    if options.exams.adc_scaling == "fixed":
        findings.append(_fixed_adc())
    if options.exams.label_values == "isup":
        findings += _grade_one_only(results)
    parts: dict[str, list[CaseEntry]] = {"training": [], "unlabeled": []}
    sound = [(exam, result) for exam, result in zip(exams, results, strict=True) if not has_errors(result.findings)]
    for exam, result in sound:
        parts["unlabeled" if result.significant is None else "training"].append(_entry(exam, result, options.root))
    findings += _patients([exam for exam, _ in sound])
    described = {"name": source.resolve().name, "modality": _MODALITY, "labels": _LABELS}
    return build_manifest(parts, options=options, described=described, findings=findings)


def _import_all(exams: Sequence[ExamFiles], target: Path, options: ImportOptions) -> list[ExamResult]:
    jobs = [
        ExamJob(exam=exam, folder=target / exam.id, options=options.exams, replace=options.replace) for exam in exams
    ]
    workers = default_workers(path for exam in exams for paths in exam.files.values() for path in paths)
    outcomes = map_isolated(import_exam, jobs, workers=workers)
    return [
        ExamResult(findings=(finding_from(outcome, case=exam.id),)) if isinstance(outcome, Exception) else outcome
        for exam, outcome in zip(exams, outcomes, strict=True)
    ]


def _require_exams(source: Path, exams: Sequence[ExamFiles], root: Path) -> None:
    if not exams:
        message = (
            f"{source}: expected exams of t2w, adc and hbv files, in a folder each or as <exam>_t2w.mha, found none. "
            "Rename the files, or import with another --format."
        )
        raise ConfigError(message)
    target = (root / EXAMS_FOLDER).resolve()
    if target.is_relative_to(source.resolve()) or source.resolve().is_relative_to(target):
        message = (
            f"{source}: expected exams elsewhere than {target}, where the new images go, and neither below the other. "
            "Choose an --out in another folder."
        )
        raise ConfigError(message)


def _patients(exams: Sequence[ExamFiles]) -> list[Finding]:
    """Find what makes folds impossible or torn: a folder above all exams that is no patient's, or no patient at all."""
    patients = {exam.patient for exam in exams}
    if len(exams) < 3 or len(patients) > 1:
        return []
    if None in patients:
        text = f"no name tells the patient of any of the {len(exams)} exams: each counts as a patient of its own."
        fix = "If some are of one patient, give each patient a folder round its exams, or name <patient>_<study>_t2w."
        return [Finding(code="patient-unknown", severity="info", text=text, fix=fix)]
    text = f"all {len(exams)} exams lie below one folder, which is read as one patient with that many exams."
    fix = "If they are of several patients, import that folder itself, or give each patient a folder."
    return [Finding(code="patient-one", severity="warning", text=text, fix=fix)]


def _unfit_name(fault: str) -> Finding:
    text = f"expected names of folders that can name the exam's outputs, found that {fault}."
    fix = "Rename the folders of the exam; nothing of it was read."
    return Finding(code="exam-name", severity="error", text=text, fix=fix)


def _entry(exam: ExamFiles, result: ExamResult, root: Path) -> CaseEntry:
    folder = root / EXAMS_FOLDER / exam.id
    images = [relative_path(folder / f"{sequence}.nii.gz", root) for sequence in SEQUENCES]
    entry: dict[str, Any] = {"id": exam.id, "image": images}
    if exam.patient is not None:
        entry["patient"] = exam.patient
    if result.significant is not None:
        entry |= {"label": relative_path(folder / "label.nii.gz", root), "class": int(result.significant)}
    return entry


def _fixed_adc() -> Finding:
    text = "ADC maps keep their unit: 0 to 3000e-6 mm2/s are written as 0 to 1, and a bundle may normalise them again."
    fix = (
        "Train and pre-train prostate_mri_lesion_cswin_unet with --set intensity_mean=[null,0,null] "
        "--set intensity_deviation=[null,1,null]."
    )
    return Finding(code="adc-fixed", severity="info", text=text, fix=fix)


def _grade_one_only(results: Sequence[ExamResult]) -> list[Finding]:
    """Find labels that may be binary although they are read as grades: a 1 somewhere and nothing above it anywhere."""
    values = {value for result in results for value in result.label_values or ()}
    if 1 not in values or max(values) > 1:
        return []
    text = "no label has a value above 1. Read as ISUP grades, 1 is not significant, so every exam counts as negative."
    fix = "If 1 means significant cancer in these labels, import with --label-values binary."
    return [Finding(code="label-grades", severity="warning", text=text, fix=fix)]
