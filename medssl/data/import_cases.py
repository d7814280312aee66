"""What every importer needs: the user's options, paths below the root, and a manifest from case entries."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from medssl.core.errors import ConfigError, MedsslError
from medssl.core.findings import Finding, finding_from
from medssl.data.case_checks import count_label_values
from medssl.data.exam_import import ExamOptions
from medssl.data.manifest import Manifest
from medssl.data.volumes import read_header, read_volume

CaseEntry = dict[str, Any]
Labels = dict[str, str]


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """What the user says about the data.

    Attributes:
        root: Folder that the manifest's paths start from; the data must lie below it.
        name: Name of the data set, or None to take it from the source.
        modality: Such as "MR" or "CT", or None to take it from the source.
        labels: Names of the label values, or None to take them from the source or from the label files.
        test_as_unlabeled: Put test images without labels into `unlabeled`.
        exams: How prostate exams are brought on one grid.
        replace: Whether images that an import wrote from other files or with other options may be replaced.
    """

    root: Path
    name: str | None = None
    modality: str | None = None
    labels: Labels | None = None
    test_as_unlabeled: bool = False
    exams: ExamOptions = field(default_factory=ExamOptions)
    replace: bool = False


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A manifest and what was noticed while making it."""

    manifest: Manifest
    findings: list[Finding] = field(default_factory=list)


class NothingImportedError(ConfigError):
    """No case of a source could be imported; `findings` say why, case by case.

    Args:
        findings: What was noticed.
    """

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        errors = Counter(finding.code for finding in findings if finding.severity == "error")
        if errors:
            listed = ", ".join(f"{code} ({count})" for code, count in errors.items())
            super().__init__(f"no case could be imported: {listed}.", fix="Do what the findings say.")
        else:
            super().__init__("no case could be imported.", fix="Check source and format.")


def relative_path(path: Path, root: Path) -> str:
    """Return the path of a file as a manifest names it: relative to `root`, with forward slashes.

    Raises:
        ConfigError: If the file does not lie below `root`.
    """
    absolute, base = Path(os.path.abspath(path)), Path(os.path.abspath(root))  # noqa: PTH100  (links stay links)
    if not absolute.is_relative_to(base):
        message = (
            f"{path.name} does not lie below {base}, where the manifest's paths start. "
            "Name a folder above the data with --data-root, or write the manifest beside the data."
        )
        raise ConfigError(message)
    return absolute.relative_to(base).as_posix()


def build_manifest(
    parts: dict[str, list[CaseEntry]], *, options: ImportOptions, described: dict[str, Any], findings: list[Finding]
) -> Imported:
    """Join cases with what user and source say about them; look at images and, if need be, at label values.

    Cases whose image has the wrong number of dimensions are left out and reported; `medssl check` looks at the rest.

    Args:
        parts: Case entries by part.
        options: What the user says; it goes before what the source says.
        described: Fields of the manifest as the source gives them: name, modality, labels, description, licence.
        findings: What was noticed so far; what is noticed here is added to it.

    Raises:
        NothingImportedError: If no case is left.
        ConfigError: If the cases do not make a manifest.
    """
    kept = {part: [case for case in cases if _is_usable(case, options.root, findings)] for part, cases in parts.items()}
    if not any(kept.values()):
        raise NothingImportedError(findings)
    labels = options.labels or described.get("labels") or _scan_labels(kept, options.root, findings)
    content = described | kept | {"labels": labels}
    content["name"] = options.name or described.get("name") or "unnamed"
    content["modality"] = options.modality or described.get("modality") or _unknown_modality(findings)
    try:
        return Imported(manifest=Manifest.model_validate(content), findings=findings)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc'])) or 'manifest'}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors()
        )
        message = f"the source does not make a manifest: {problems}. Correct the source."
        raise ConfigError(message) from error


def _is_usable(case: CaseEntry, root: Path, findings: list[Finding]) -> bool:
    for image in case["image"]:
        try:
            read_header(root / image)
        except MedsslError as error:
            if error.code == "image-dimensions":
                findings.append(finding_from(error, case=case["id"], where=image))
                return False
    return True


def _scan_labels(parts: dict[str, list[CaseEntry]], root: Path, findings: list[Finding]) -> Labels:
    values: set[int] = {0}
    cases = [case for entries in parts.values() for case in entries if "label" in case]
    for case in cases:
        try:
            values |= count_label_values(read_volume(root / case["label"])).keys()
        except MedsslError as error:
            findings.append(finding_from(error, case=case["id"], where=case["label"]))
    labels = {"0": "background"} | {str(value): f"label_{value}" for value in sorted(values - {0}) if value > 0}
    if cases:
        text = (
            f"no names of labels were given; the values found in {len(cases)} label files are named {_named(labels)}."
        )
        fix = "Give names with --labels 0=background,1=..."
        findings.append(Finding(code="labels-scanned", severity="warning", text=text, fix=fix))
    return labels


def _named(labels: Labels) -> str:
    return ", ".join(f"{value} {name}" for value, name in labels.items())


def _unknown_modality(findings: list[Finding]) -> str:
    text = 'the source does not say which modality this is; it is written as "unknown".'
    findings.append(Finding(code="modality-unknown", severity="info", text=text, fix="Name it with --modality."))
    return "unknown"


def visible_files(folder: Path, suffixes: Sequence[str], findings: list[Finding]) -> list[Path]:
    """Return the image files of a folder in order; what is passed over is reported.

    Args:
        folder: Folder, which need not exist.
        suffixes: Suffixes of image files.
        findings: Where hidden and other files are reported.
    """
    if not folder.is_dir():
        return []
    images: list[Path] = []
    hidden: list[Path] = []
    other: list[Path] = []
    for path in sorted(folder.iterdir()):
        is_image = path.name.lower().endswith(tuple(suffixes))
        (hidden if path.name.startswith(".") else images if is_image else other).append(path)
    if hidden:
        text = f"{folder.name}: {len(hidden)} hidden files (such as macOS ._ files) were passed over."
        findings.append(Finding(code="file-hidden", severity="info", text=text, fix="Nothing; they can be deleted."))
    if other:
        listed = ", ".join(path.name for path in other[:3])
        text = f"{folder.name}: {len(other)} entries are no images and were passed over ({listed})."
        fix = f"Convert images to one of {', '.join(suffixes)}."
        findings.append(Finding(code="file-other", severity="warning", text=text, fix=fix))
    return images
