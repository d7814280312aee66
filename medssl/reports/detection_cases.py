"""Cases of a detection: the candidates and the lesions over every sequence of the exam, in one plane."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medssl.core.errors import MedsslError
from medssl.core.files import inside_root, sha256_file
from medssl.core.findings import Finding
from medssl.data.manifest import Case, resolve_image, resolve_label
from medssl.data.volumes import read_header
from medssl.evaluation.detection_case import DETECTION_SUFFIX
from medssl.reports.detection import highest_false, is_detection, ranked_detections
from medssl.reports.images import Volume, read_volume, require_same_grid
from medssl.reports.sequences import draw_sequences
from medssl.reports.sources import Json, ManifestFile, Sources

_MISSED, _FALSE, _FOUND = "Missed lesion", "Most confident false candidate", "Found lesion"
_FIX = "Give the manifest, --data-root and the folder of medssl infer together with the metrics."


@dataclass(frozen=True, kw_only=True)
class DetectionPicture:
    """One case: a plane of every sequence with lesions and candidates.

    Attributes:
        role: Why it is shown.
        id: Case id.
        text: What the picture shows, in words.
        image: PNG data address.
    """

    role: str
    id: str
    text: str
    image: str


def draw_detections(sources: Sources, *, worst: int) -> tuple[list[DetectionPicture], list[Finding]]:
    """Draw, for each detection evaluation, cases with missed lesions, with confident false candidates, and a found one.

    A case whose files cannot be drawn becomes a finding.

    Args:
        sources: What the report is made from.
        worst: Cases of each kind of fault.
    """
    pictures, findings = [], []
    evaluations = [each for each in sources.evaluations if is_detection(each.content)]
    for evaluation in evaluations:
        for role, case in choose_detections(evaluation.content, worst=worst):
            try:
                drawn = _picture(sources, case, role)
                title = f"{role} of {evaluation.title}" if len(evaluations) > 1 else role
                pictures.append(replace(drawn, role=title))
            except MedsslError as error:
                found = Finding(code="no-picture", severity="warning", case=case["id"], text=str(error), fix=_FIX)
                findings.append(found)
    return pictures, findings


def choose_detections(metrics: Json, *, worst: int) -> list[tuple[str, Json]]:
    """Return cases with their roles: missed lesions, the most confident false candidates, and the best found lesion."""
    ranked = ranked_detections(metrics)
    missed = [case for case in ranked if case["missed"]][:worst]
    false = [case for case in ranked if highest_false(case) and case not in missed]
    false = sorted(false, key=lambda case: -highest_false(case))[:worst]
    chosen = [(_MISSED, case) for case in missed]
    chosen += [(_FALSE, case) for case in false]
    drawn = [case for _, case in chosen]
    found = [case for case in ranked if case["found"] and case not in drawn]
    if found:
        chosen.append((_FOUND, max(found, key=lambda case: float(case["confidence"]))))
    return chosen


def _picture(sources: Sources, scores: Json, role: str) -> DetectionPicture:
    source, case = _find_case(sources.manifests, str(scores["id"]))
    images = [read_volume(path) for path in resolve_image(source.root, case)]
    path = _find_map(sources, scores)
    detection = read_volume(path)
    require_same_grid(images[0], detection, name="the detection map")
    lesions = _lesions(source, case, images[0])
    # Centres are places in the file, whose axes the report may have turned
    turned = np.linalg.inv(detection.affine) @ read_header(path).affine
    names, plane = _sequence_names(images, source), _plane(scores, role, turned, detection.values.shape[2])
    drawn = draw_sequences(images, detection.values, lesions, names=names, plane=plane)
    return DetectionPicture(role=role, id=case.id, text=_text(scores), image=drawn)


def _lesions(source: ManifestFile, case: Case, image: Volume) -> NDArray[Any]:
    label = resolve_label(source.root, case)
    if label is None:  # known to have none
        return np.zeros(image.values.shape, dtype=np.uint8)
    volume = read_volume(label)
    require_same_grid(image, volume, name="the label map")
    return volume.values


def _sequence_names(images: list[Volume], source: ManifestFile) -> list[str]:
    """Name the channels as the manifest's modality does ("bpMRI: T2W, ADC, high-b DWI"), or by number."""
    names = [name.strip() for name in source.manifest.modality.rpartition(":")[2].split(",")]
    return names if len(names) == len(images) else [f"channel {number}" for number in range(1, len(images) + 1)]


def _find_case(manifests: list[ManifestFile], case_id: str) -> tuple[ManifestFile, Case]:
    for source in manifests:
        for _, case in source.manifest.cases():
            if case.id == case_id:
                return source, case
    message = "no manifest among the sources names this case, so it is not drawn."
    raise MedsslError(message)


def _plane(scores: Json, role: str, turned: NDArray[np.float64], planes: int) -> int | None:
    """Return the axial plane through what a role names; None where metrics.json is of a version that did not tell."""
    if role == _MISSED:
        centres = scores.get("missed_centres") or []
    else:
        outcome = "hit" if role == _FOUND else "false"
        centres = [each["centre"] for each in scores["candidates"] if each["outcome"] == outcome]
    if not centres:
        return None
    return int(np.clip(round(float((turned @ [*centres[0], 1.0])[2])), 0, planes - 1))


def _find_map(sources: Sources, scores: Json) -> Path:
    """Return the detection map that was scored, known by its hash."""
    name = f"{scores['id']}{DETECTION_SUFFIX}"
    paths = [inside_root(inference.folder, name) for inference in sources.inferences]
    found = [path for path in paths if path.is_file()]
    for path in found:
        if sha256_file(path) == scores["prediction_sha256"]:
            return path
    what = "another detection map of it than the one that was scored" if found else "no detection map of it"
    message = f"the output folders of medssl infer among the sources hold {what}, so it is not drawn."
    raise MedsslError(message)


def _text(scores: Json) -> str:
    outcomes = {"hit": "on a lesion", "false": "false", "second": "second on a lesion"}
    listed = [f"{each['confidence']:.2f} ({outcomes[each['outcome']]})" for each in scores["candidates"][:5]]
    truth = f"{scores['found']} of {scores['lesions']} lesions found" if scores["lesions"] else "No lesion"
    return f"{truth}; candidates: {', '.join(listed) or 'none'}"
