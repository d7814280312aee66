"""Which cases the report shows, and where their images lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medssl.core.errors import MedsslError
from medssl.core.files import inside_root
from medssl.core.findings import Finding
from medssl.data.manifest import Case, resolve_image, resolve_label
from medssl.reports.images import Volume, read_volume, require_same_grid
from medssl.reports.overlays import class_colour, draw_comparison, draw_prediction
from medssl.reports.scores import case_dice, ranked_cases
from medssl.reports.sources import Inference, Json, ManifestFile, Sources

MOST_NAMES = 14
_ORDINALS = {0: "", 1: "second ", 2: "third "}


@dataclass(frozen=True, kw_only=True)
class CasePicture:
    """One case as three planes.

    Attributes:
        role: Why it is shown, such as "Worst case".
        id: Case id.
        text: What the picture shows, in words.
        image: PNG data address.
        legend: (colour, name) of the coloured structures; empty where outlines are compared.
    """

    role: str
    id: str
    text: str
    image: str
    legend: tuple[tuple[str, str], ...] = ()


def choose_cases(metrics: Json, *, worst: int) -> list[tuple[str, Json]]:
    """Return the `worst` cases by mean Dice, and the median one, each with its role."""
    ranked = [case for case in ranked_cases(metrics) if case_dice(case) is not None]
    chosen = [
        (f"{_ORDINALS.get(order, f'{order + 1}th ')}worst case".capitalize(), ranked[order])
        for order in range(min(worst, len(ranked)))
    ]
    median = ranked[len(ranked) // 2] if ranked else None
    if median is not None and all(case is not median for _, case in chosen):
        chosen.append(("Median case", median))
    return chosen


def draw_cases(sources: Sources, *, worst: int, unscored: int) -> tuple[list[CasePicture], list[Finding]]:
    """Draw the chosen scored cases, then the first `unscored` predicted ones that no evaluation scored.

    A case whose files cannot be drawn becomes a finding.
    """
    pictures, findings = [], []
    scored = {str(case.get("id")) for metrics in sources.evaluations for case in metrics["cases"]}
    wanted = [(role, str(case["id"]), case) for m in sources.evaluations for role, case in choose_cases(m, worst=worst)]
    shown = [case_id for case_id in _done(sources.inferences) if case_id not in scored][:unscored]
    for role, case_id, case in [*wanted, *(("Without a reference", case_id, None) for case_id in shown)]:
        try:
            pictures.append(_draw(sources, role, case_id, case))
        except MedsslError as error:
            fix = "Give the manifest, --data-root and the folder of medssl infer together with the metrics."
            findings.append(Finding(code="no-picture", severity="warning", case=case_id, text=str(error), fix=fix))
    return pictures, findings


def _done(inferences: Sequence[Inference]) -> list[str]:
    return [str(case["id"]) for run in inferences for case in run.content["cases"] if case.get("state") != "failed"]


def _draw(sources: Sources, role: str, case_id: str, metrics: Json | None) -> CasePicture:
    source, case = _find_case(sources.manifests, case_id, labelled=metrics is not None)
    inference, path = _find_prediction(sources.inferences, case_id)
    image = read_volume(resolve_image(source.root, case)[0])
    prediction = read_volume(path)
    require_same_grid(image, prediction, name="the prediction")
    modality = source.manifest.modality
    label = resolve_label(source.root, case)
    if metrics is None or label is None:
        labels = _labels(inference)
        return _without_reference(role, case_id, image, prediction, labels=labels, modality=modality)
    reference = read_volume(label)
    require_same_grid(image, reference, name="the label map")
    names = {name: int(value) for value, name in source.manifest.labels.items()}
    predicted = _by_manifest(prediction.values, _labels(inference), names)
    drawn = draw_comparison(image, predicted, _foreground(reference.values, metrics, names), modality=modality)
    return CasePicture(role=role, id=case_id, text=_dice_text(metrics), image=drawn)


def _without_reference(
    role: str, case_id: str, image: Volume, prediction: Volume, *, labels: dict[int, str], modality: str
) -> CasePicture:
    values = [int(value) for value in np.unique(prediction.values) if value != 0]
    drawn = draw_prediction(image, prediction.values, values, modality=modality)
    voxel_ml = float(np.prod(image.spacing_mm)) / 1000
    counts = [f"{labels.get(v, str(v))} {np.count_nonzero(prediction.values == v) * voxel_ml:.0f} ml" for v in values]
    text = "Predicted: " + (", ".join(counts[:MOST_NAMES]) or "nothing")
    legend = [(class_colour(order), labels.get(value, str(value))) for order, value in enumerate(values)]
    return CasePicture(role=role, id=case_id, text=text, image=drawn, legend=tuple(legend[:MOST_NAMES]))


def _find_case(manifests: Sequence[ManifestFile], case_id: str, *, labelled: bool) -> tuple[ManifestFile, Case]:
    for source in manifests:
        for _, case in source.manifest.cases():
            if case.id == case_id and (case.label is not None or not labelled):
                return source, case
    what = "a label map" if labelled else "an image"
    message = f"no manifest among the sources names {what} for this case, so it is not drawn."
    raise MedsslError(message)


def _find_prediction(inferences: Sequence[Inference], case_id: str) -> tuple[Inference, Path]:
    for inference in inferences:
        for entry in inference.content["cases"]:
            if entry.get("id") == case_id and entry.get("state") != "failed":
                # The written name is not trusted to stay in the folder
                name = str(entry.get("output") or f"{case_id}.nii.gz")
                return inference, inside_root(inference.folder, Path(name).name)
    message = "no output folder of medssl infer among the sources holds this case, so it is not drawn."
    raise MedsslError(message)


def _labels(inference: Inference) -> dict[int, str]:
    return {int(value): str(name) for value, name in (inference.content.get("labels") or {}).items()}


def _by_manifest(prediction: np.ndarray[Any, Any], labels: dict[int, str], names: dict[str, int]) -> Any:
    """Give predicted structures the manifest's values, by name; unknown names keep their own value."""
    renamed = {value: names[name] for value, name in labels.items() if name in names and names[name] != value}
    if not renamed:
        return prediction
    mapped = prediction.copy()
    for value, wanted in renamed.items():
        mapped[prediction == value] = wanted
    return mapped


def _foreground(reference: np.ndarray[Any, Any], metrics: Json, names: dict[str, int]) -> Any:
    """Keep the structures that were scored; others were never asked of the network."""
    scored = [names[name] for name in metrics.get("classes") or {} if name in names]
    return np.where(np.isin(reference, scored), reference, 0) if scored else reference


def _dice_text(metrics: Json) -> str:
    texts = []
    for name, entry in list((metrics.get("classes") or {}).items())[:MOST_NAMES]:
        dice, state = entry.get("dice"), entry.get("state", "both")
        text = "not defined" if dice is None else f"{dice:.3f}"
        texts.append(f"{name} {text}" if state == "both" else f"{name} {text} ({state})")
    return "Dice: " + ", ".join(texts)
