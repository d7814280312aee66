"""Score a folder of class probabilities against the classes of a manifest."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medssl.core.errors import ConfigError
from medssl.core.files import sha256_file
from medssl.core.findings import Finding
from medssl.data.class_cases import class_of
from medssl.data.manifest import Case, Manifest, Part
from medssl.evaluation.classification_summary import ClassCase, ClassEvaluation
from medssl.evaluation.predictions import PredictionFolder, open_predictions
from medssl.evaluation.scored_cases import labelled_cases, of_other_runs, without_patient, without_reference
from medssl.evaluation.summary import ordinal_groups

SUFFIX = "_classes.json"
"""Behind the case id in the name of a prediction."""

_SUM = 1e-3  # by which probabilities may miss 1


def has_class(case: Case) -> bool:
    """Tell whether the class of a case is known."""
    return case.class_ is not None


def evaluate_classes(
    manifest: Manifest, *, predictions: Path, part: Part = "test", seed: int = 0, cases: Sequence[Case] | None = None
) -> ClassEvaluation:
    """Score the probabilities in `<case id>_classes.json` of a folder, as `medssl infer` writes them.

    Classes are matched by name. A case without a usable prediction becomes a finding and stays in the result as failed.

    Args:
        manifest: The dataset.
        predictions: Folder with predictions, and run.json if medssl infer wrote them.
        part: Part of the manifest to score.
        seed: Seed of the bootstrap.
        cases: Cases to score instead of a part's.

    Raises:
        ConfigError: If no case has a class, or the folder is missing or knows other classes.
        ManifestError: If a case has a class that the labels do not name.
    """
    folder = open_predictions(predictions)
    chosen = list(cases) if cases is not None else labelled_cases(manifest, part, counts_as=has_class)
    classes = tuple(manifest.labels[str(value)] for value in manifest.label_values())
    _require_classes(classes, folder)
    findings = without_patient(chosen) + of_other_runs(chosen, folder, suffix=SUFFIX)
    if cases is None:
        findings += without_reference(manifest.part(part), counts_as=has_class)
    scored = []
    for case, group in zip(chosen, ordinal_groups([each.group for each in chosen]), strict=True):
        probabilities, problem = _probabilities(case, classes, folder)
        truth = classes.index(class_of(case, manifest.labels))
        scored.append(ClassCase(id=case.id, group=group, fold=case.fold, truth=truth, probabilities=probabilities))
        findings += [] if problem is None else [problem]
        findings += _altered(case, folder) if probabilities else []
    return ClassEvaluation(classes=classes, seed=seed, cases=tuple(scored), findings=tuple(findings))


def _require_classes(classes: tuple[str, ...], folder: PredictionFolder) -> None:
    if folder.labels is None:
        return
    offered = [name.casefold() for name in folder.labels.values()]
    missing = [name for name in classes if name.casefold() not in offered]
    if missing or len(offered) != len(classes):
        message = (
            f"{folder.folder / 'run.json'}: expected the manifest's classes {', '.join(classes)}, found "
            f"{', '.join(folder.labels.values())}. Use the manifest that belongs to this bundle."
        )
        raise ConfigError(message)


def _probabilities(
    case: Case, classes: tuple[str, ...], folder: PredictionFolder
) -> tuple[tuple[float, ...], Finding | None]:
    reason = folder.failure(case.id)
    if reason is not None:
        return (), _missing(case, f"run.json says that the prediction failed: {reason}")
    path = folder.path(case.id, suffix=SUFFIX)
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
        given = {str(name).casefold(): float(value) for name, value in content["probabilities"].items()}
        values = tuple(given[name.casefold()] for name in classes)
    except FileNotFoundError:
        return (), _missing(case, f"expected the prediction {path.name}, found no such file")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        found = f"{type(error).__name__}: {error}"
        return (), _unreadable(
            case, f"{path.name}: expected the probability of each class, found another content", found
        )
    if not all(math.isfinite(value) and 0.0 <= value <= 1.0 for value in values) or abs(sum(values) - 1.0) > _SUM:
        return (), _unreadable(case, f"{path.name}: expected probabilities that sum to 1", str(values))
    return values, None


def _missing(case: Case, text: str) -> Finding:
    fix = "Predict the case again, or take it out of this part of the manifest."
    return Finding(code="prediction-missing", severity="error", case=case.id, text=f"{text}.", fix=fix)


def _unreadable(case: Case, text: str, found: str) -> Finding:
    fix = "Predict the case again with medssl infer."
    return Finding(
        code="prediction-unreadable", severity="error", case=case.id, text=f"{text}, found {found}.", fix=fix
    )


def _altered(case: Case, folder: PredictionFolder) -> list[Finding]:
    stated = folder.stated_sha256(case.id)
    if stated in (None, sha256_file(folder.path(case.id, suffix=SUFFIX))):
        return []
    text = "the prediction is not the one that run.json describes: its hash differs. It was scored as it is."
    fix = "Predict the case again, unless it was edited on purpose."
    return [Finding(code="prediction-altered", severity="warning", case=case.id, text=text, fix=fix)]
