"""Which cases of a manifest are scored, and what is said about those that are not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from medssl.core.errors import ConfigError
from medssl.core.findings import Finding
from medssl.data.manifest import PARTS, Case, Manifest, Part, resolve_label
from medssl.evaluation.predictions import PredictionFolder


def has_label(case: Case) -> bool:
    """Tell whether a case has a label map."""
    return case.label is not None


def has_lesion_reference(case: Case) -> bool:
    """Tell whether it is known where a case has lesions: from its label map, or as class 0 that it has none."""
    return case.label is not None or case.class_ == 0


def labelled_cases(manifest: Manifest, part: Part, *, counts_as: Callable[[Case], bool] = has_label) -> list[Case]:
    """Return the cases of a part that can be scored.

    Args:
        manifest: The dataset.
        part: Part to score.
        counts_as: What a case needs.

    Raises:
        ConfigError: If there are none.
    """
    cases = [case for case in manifest.part(part) if counts_as(case)]
    if not cases:
        counts = {each: sum(counts_as(case) for case in manifest.part(each)) for each in PARTS}
        offered = ", ".join(f"{each} ({count})" for each, count in counts.items() if count) or "none"
        message = (
            f"manifest {manifest.name!r}: expected labelled cases in part {part}, found none. "
            f"Parts with labelled cases: {offered}."
        )
        classified = any(case.class_ is not None for case in manifest.part(part))
        fix = "Its cases have a class: --task classification scores them." if classified else "Choose one with --part."
        raise ConfigError(message, fix=fix)
    return cases


def without_reference(cases: Sequence[Case], *, counts_as: Callable[[Case], bool] = has_label) -> list[Finding]:
    """Find the cases that cannot be scored."""
    fix = "Nothing to do, unless a label was forgotten in the manifest."
    text = "the case has no reference label and is not scored."
    without = [case.id for case in cases if not counts_as(case)]
    return [Finding(code="reference-absent", severity="warning", case=each, text=text, fix=fix) for each in without]


def without_patient(cases: Sequence[Case]) -> list[Finding]:
    """Find out whether cases name no patient, which makes intervals too narrow if patients have several."""
    count = sum(case.patient is None for case in cases)
    if not count:
        return []
    text = f"{count} of {len(cases)} cases name no patient; each counts as a patient of its own in the intervals."
    fix = "If patients have several cases, name the patients in the manifest: the intervals are too narrow without."
    return [Finding(code="patients-unknown", severity="info", text=text, fix=fix)]


def of_other_runs(cases: Sequence[Case], folder: PredictionFolder, *, suffix: str = ".nii.gz") -> list[Finding]:
    """Find outputs that the folder's run.json does not speak of, such as those of an earlier run's bundle."""
    if folder.labels is None:
        return []
    text = "run.json does not speak of this output: another run or program made it. It was scored as it is."
    fix = "Predict the case again into this folder, or score what belongs together in a folder of its own."
    there = [case.id for case in cases if folder.path(case.id, suffix=suffix).is_file()]
    others = [each for each in there if each not in folder.cases]
    return [Finding(code="prediction-unlisted", severity="warning", case=each, text=text, fix=fix) for each in others]


def label_path(root: Path, case: Case) -> Path:
    """Return where the label map of a case lies.

    Raises:
        ConfigError: If it has none.
        ManifestError: If the path leaves `root`.
    """
    path = resolve_label(root, case)
    if path is None:
        message = f"case {case.id}: expected a label."
        raise ConfigError(message)
    return path
