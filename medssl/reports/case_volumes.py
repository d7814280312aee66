"""The volumes of one case for a report: image, prediction and reference on one grid, structures matched by name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medssl.core.errors import MedsslError
from medssl.core.files import inside_root
from medssl.data.manifest import Case, resolve_image, resolve_label
from medssl.reports.images import Volume, read_volume, require_same_grid
from medssl.reports.sources import Evaluation, Inference, Json, ManifestFile, Sources


@dataclass(frozen=True, kw_only=True)
class CaseVolumes:
    """One case, axes along the patient.

    Attributes:
        id: Case id.
        image: First channel of the image.
        prediction: Label map (X, Y, Z); structures that the manifest knows have its values.
        reference: Label map (X, Y, Z) of the scored structures, or None.
        names: Value to name of every structure that is named.
        modality: The manifest's.
    """

    id: str
    image: Volume
    prediction: NDArray[Any]
    reference: NDArray[Any] | None
    names: dict[int, str]
    modality: str

    def values(self) -> list[int]:
        """Return the values of the structures that occur in either label map, without the background."""
        maps = [labels for labels in (self.prediction, self.reference) if labels is not None]
        return sorted({int(value) for labels in maps for value in np.unique(labels)} - {0})

    def name(self, value: int) -> str:
        """Return a structure's name, or its value in digits where it has none."""
        return self.names.get(value, str(value))

    def volume_ml(self, labels: NDArray[Any], value: int) -> float:
        """Return a structure's volume in ml."""
        return float(np.count_nonzero(labels == value) * np.prod(self.image.spacing_mm) / 1000)


def load_case(sources: Sources, case_id: str, *, evaluation: Evaluation | None, scores: Json | None) -> CaseVolumes:
    """Read the volumes of one case.

    Args:
        sources: What the report is made from.
        case_id: Case id.
        evaluation: The evaluation that scored the case; its label map is looked for. None: the reference is left out.
        scores: The case's entry in that evaluation.

    Raises:
        MedsslError: If no manifest or output folder among the sources holds the case, a file cannot be read, or the
            volumes lie on different grids.
    """
    source, case = _find_case(sources.manifests, case_id, labelled=evaluation is not None)
    inference, path = find_prediction(sources, case_id, evaluation=evaluation)
    image = read_volume(resolve_image(source.root, case)[0])
    prediction = read_volume(path)
    require_same_grid(image, prediction, name="the prediction")
    label = resolve_label(source.root, case)
    if evaluation is None or label is None:
        values, names, reference = prediction.values, _labels(inference), None
    else:
        volume = read_volume(label)
        require_same_grid(image, volume, name="the label map")
        known = {int(value): name for value, name in source.manifest.labels.items()}
        values, names = match_by_name(prediction.values, _labels(inference), known)
        reference = _scored_only(volume.values, scores or {}, known)
    return CaseVolumes(
        id=case_id, image=image, prediction=values, reference=reference, names=names, modality=source.manifest.modality
    )


def find_prediction(sources: Sources, case_id: str, *, evaluation: Evaluation | None) -> tuple[Inference, Path]:
    """Return the output of medssl infer that holds a case, and the path of its label map.

    Scores name the run they were made from by its hash, or are of the cases that their run held out: that is taken.
    Without it, runs that belong to other scores among the sources are passed over, so that no scores stand under
    another model's picture.

    Raises:
        MedsslError: If no output folder holds the case.
    """
    own = evaluation.run_sha256 if evaluation is not None else None
    others = {each.run_sha256 for each in sources.evaluations if evaluation is not None} - {own}
    ranked = [] if evaluation is None else list(evaluation.held_out)
    ranked += [inference for inference in sources.inferences if inference.sha256 == own]
    ranked += [inference for inference in sources.inferences if inference.sha256 not in others | {own}]
    for inference in ranked:
        for entry in inference.content["cases"]:
            if entry.get("id") == case_id and entry.get("state") != "failed":
                # The written name is not trusted to stay in the folder
                name = str(entry.get("output") or f"{case_id}.nii.gz")
                return inference, inside_root(inference.folder, Path(name).name)
    message = "no output folder of medssl infer among the sources holds this case, so it is not drawn."
    raise MedsslError(message)


def match_by_name(
    prediction: NDArray[Any], predicted: dict[int, str], known: dict[int, str]
) -> tuple[NDArray[Any], dict[int, str]]:
    """Give predicted structures the values under which the manifest knows them.

    A structure that the manifest does not know keeps its value if that is free, and gets a new one if not.

    Args:
        prediction: Label map (X, Y, Z).
        predicted: Value to name as the model's labels say; empty if they are not known.
        known: Value to name as the manifest says.

    Returns:
        The label map in the manifest's values, and value to name of all structures.
    """
    values = {name: value for value, name in known.items()}
    names = dict(known)
    wanted = {}
    for value, name in predicted.items():
        if value == 0:
            continue
        if name not in values:
            values[name] = value if value not in names else max([*names, *predicted]) + 1
            names[values[name]] = name
        wanted[value] = values[name]
    changed = {value: new for value, new in wanted.items() if value != new}
    if not changed:
        return prediction, names
    mapped = prediction.astype(np.int32)
    for value, new in changed.items():
        mapped[prediction == value] = new
    return mapped, names


def _find_case(manifests: Sequence[ManifestFile], case_id: str, *, labelled: bool) -> tuple[ManifestFile, Case]:
    for source in manifests:
        for _, case in source.manifest.cases():
            if case.id == case_id and (case.label is not None or not labelled):
                return source, case
    what = "a label map" if labelled else "an image"
    message = f"no manifest among the sources names {what} for this case, so it is not drawn."
    raise MedsslError(message)


def _labels(inference: Inference) -> dict[int, str]:
    return {int(value): str(name) for value, name in (inference.content.get("labels") or {}).items()}


def _scored_only(reference: NDArray[Any], scores: Json, known: dict[int, str]) -> NDArray[Any]:
    """Keep the structures that were scored; others were never asked of the network."""
    scored = [value for value, name in known.items() if name in (scores.get("classes") or {})]
    return np.where(np.isin(reference, scored), reference, 0) if scored else reference
