"""A folder of predictions: where each case's label map lies, what run.json says, and labels matched by name."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medssl.core.errors import ConfigError
from medssl.core.findings import Finding
from medssl.core.suggest import did_you_mean
from medssl.data.manifest import Manifest


@dataclass(frozen=True, kw_only=True)
class PredictionFolder:
    """What `medssl infer` (or another program) left behind.

    Attributes:
        folder: Where `<case id>.nii.gz` lies.
        labels: Value to name as run.json states it, or None without run.json.
        cases: The case entries of run.json by id; empty without run.json.
        bundle: The bundle block of run.json (name, version, hashes), or None.
        places: Folder of each case where they lie in several, fold by fold.
    """

    folder: Path
    labels: dict[int, str] | None = None
    cases: dict[str, dict[str, Any]] = field(default_factory=dict)
    bundle: dict[str, Any] | None = None
    places: dict[str, Path] = field(default_factory=dict)

    def path(self, case_id: str, *, suffix: str = ".nii.gz") -> Path:
        """Return where the label map of a case is expected, or another output by what follows the id."""
        return self.places.get(case_id, self.folder) / f"{case_id}{suffix}"

    def failure(self, case_id: str) -> str | None:
        """Return why run.json says that this case failed, or None if it does not say so."""
        case = self.cases.get(case_id)
        if case is None or case.get("state") != "failed":
            return None
        return str((case.get("finding") or {}).get("text") or "no reason given")

    def stated_sha256(self, case_id: str, name: str | None = None) -> str | None:
        """Return the hash that run.json states for the case's label map, or for another output by name, if any."""
        case = self.cases.get(case_id, {})
        return case.get("output_sha256") if name is None else (case.get("more_outputs") or {}).get(name)


def open_predictions(folder: Path) -> PredictionFolder:
    """Read a folder's run.json, if there is one, or those of the folders fold_0, fold_1, ... in it.

    Raises:
        ConfigError: If the folder is missing or its run.json cannot be understood.
    """
    folder = Path(folder)
    if not folder.is_dir():
        message = f"{folder}: no such folder. Expected label maps named <case id>.nii.gz, as medssl infer writes them."
        raise ConfigError(message)
    if (folder / "run.json").is_file():
        return _read_run(folder)
    parts = [_read_run(part) for part in sorted(folder.glob("fold_*")) if (part / "run.json").is_file()]
    return _join(folder, parts) if parts else PredictionFolder(folder=folder)


def _join(folder: Path, parts: list[PredictionFolder]) -> PredictionFolder:
    """Join what the networks of a cross-validation predicted, each for the cases it never saw."""
    ids = [case_id for part in parts for case_id in part.cases]
    if len(set(ids)) != len(ids) or any(part.labels != parts[0].labels for part in parts):
        message = f"{folder}: expected folds of different cases and the same labels, found others."
        raise ConfigError(message, fix="Predict each case in one fold only, all by networks of one bundle.")
    return PredictionFolder(
        folder=folder,
        labels=parts[0].labels,
        cases={case_id: case for part in parts for case_id, case in part.cases.items()},
        bundle={"name": folder.name, "folds": [part.bundle for part in parts]},
        places={case_id: part.folder for part in parts for case_id in part.cases},
    )


def _read_run(folder: Path) -> PredictionFolder:
    path = folder / "run.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return PredictionFolder(
            folder=folder,
            labels={int(value): str(name) for value, name in content["labels"].items()},
            cases={case["id"]: case for case in content["cases"]},
            bundle=content.get("bundle"),
        )
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        message = (
            f"{path}: expected the run.json of medssl infer with labels and cases, found something else "
            f"({type(error).__name__}: {error}). Write the predictions again, or remove the file to go by the "
            "manifest's label values."
        )
        raise ConfigError(message) from error


def match_labels(manifest: Manifest, predictions: PredictionFolder) -> tuple[dict[str, tuple[int, int]], list[Finding]]:
    """Match the classes of references and predictions by name; the value 0 is background on both sides.

    Returns:
        For each class its value in the references and its value in the predictions; and what to tell the user.

    Raises:
        ConfigError: If the manifest names no class, or names a class that the predictions do not have.
    """
    wanted = {value: manifest.labels[str(value)] for value in manifest.label_values() if value != 0}
    if not wanted:
        message = f"manifest {manifest.name!r}: labels names no class besides background, so there is nothing to score."
        raise ConfigError(message)
    if predictions.labels is None:
        note = Finding(
            code="labels-assumed",
            severity="info",
            text="the predictions have no run.json that names their labels; the manifest's label values are assumed.",
            fix="Compare the label values, or predict with medssl infer, which writes the names.",
        )
        return {name: (value, value) for value, name in wanted.items()}, [note]
    offered = {name.casefold(): value for value, name in predictions.labels.items() if value != 0}
    missing = [name for name in wanted.values() if name.casefold() not in offered]
    if missing:
        raise ConfigError(_unmatched(missing, predictions))
    classes = {name: (value, offered[name.casefold()]) for value, name in wanted.items()}
    return classes, [*_moved(classes), *_extra(classes, predictions.labels)]


def _unmatched(missing: list[str], predictions: PredictionFolder) -> str:
    names = [name for value, name in (predictions.labels or {}).items() if value != 0]
    hint = did_you_mean(missing[0], names)
    return (
        f"{predictions.folder / 'run.json'}: the manifest's classes {', '.join(missing)} are not among the predicted "
        f"classes {', '.join(names) or '(none)'}.{hint} Labels are matched by name: use the manifest that belongs to "
        "this bundle, or correct the names in its labels."
    )


def _moved(classes: dict[str, tuple[int, int]]) -> list[Finding]:
    moved = [f"{name} {found} -> {value}" for name, (value, found) in classes.items() if value != found]
    if not moved:
        return []
    text = f"label values differ between predictions and manifest and were matched by name: {', '.join(moved)}."
    return [Finding(code="labels-mapped", severity="info", text=text, fix="Nothing to do if the names are right.")]


def _extra(classes: dict[str, tuple[int, int]], labels: dict[int, str]) -> list[Finding]:
    used = {predicted for _, predicted in classes.values()}
    extra = [name for value, name in labels.items() if value != 0 and value not in used]
    if not extra:
        return []
    text = f"predicted classes that the manifest does not have count as background: {', '.join(extra)}."
    return [Finding(code="labels-extra", severity="warning", text=text, fix="Add them to the manifest's labels.")]
