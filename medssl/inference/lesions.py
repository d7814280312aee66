"""What a lesion detector leaves of a case: the probability, the map of candidates, and both on the grid of its T2W."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from medssl.core.errors import ConfigError
from medssl.data.grids import Grid, resample
from medssl.metrics.lesion_candidates import NEIGHBOURS, CandidateRule, extract_candidates

PROBABILITY, DETECTION_MAP = "lesion_probability", "detection_map"
"""What follows the case id in the names of the two maps; the second as in PI-CAI."""

_T2W = "t2w_"

Maps = dict[str, npt.NDArray[np.float32]]


def candidate_rule(settings: Any) -> CandidateRule | None:
    """Read `lesion_candidates` of inference.json; None where the bundle detects no lesions.

    Args:
        settings: Plain values of `CandidateRule`, or None.

    Raises:
        ConfigError: If a value is unknown or out of range.
    """
    if settings is None:
        return None
    known = set(CandidateRule.__dataclass_fields__)
    if not isinstance(settings, Mapping) or not settings.keys() <= known:
        found = sorted(set(settings) - known) if isinstance(settings, Mapping) else settings
        message = f"inference.json, lesion_candidates: expected some of {', '.join(sorted(known))}, found {found}."
        raise ConfigError(message)
    return CandidateRule(**settings)


def lesion_maps(probabilities: npt.NDArray[Any], rule: CandidateRule) -> Maps:
    """Return the lesion's probability and the detection map of a case.

    Args:
        probabilities: (X, Y, Z, 2), background and lesion.
        rule: How candidates are cut out.
    """
    # Interpolation of a softmax may end a rounding error outside
    probability = np.ascontiguousarray(probabilities[..., 1], dtype=np.float32).clip(0, 1)
    return {PROBABILITY: probability, DETECTION_MAP: extract_candidates(probability, rule)}


def on_t2w(maps: Maps, grid: Grid, native: Grid) -> Maps:
    """Bring both maps to the grid of the T2W that the images were cut from; 0 outside the crop.

    Probabilities are interpolated and candidates take the nearest voxel. On a T2W that is coarser than the image, what
    lay a voxel apart may touch and what hung together may not; so voxels of the weaker candidate that touch a stronger
    one are cleared, and of one that came apart the largest piece stays. A candidate that has no voxel left is in
    `lost_candidates`.
    """
    return {
        f"{_T2W}{PROBABILITY}": resample(maps[PROBABILITY], grid.affine, native),
        f"{_T2W}{DETECTION_MAP}": _move_candidates(maps[DETECTION_MAP], grid, native),
    }


def _move_candidates(detection_map: npt.NDArray[np.float32], grid: Grid, native: Grid) -> npt.NDArray[np.float32]:
    components, count = ndimage.label(detection_map, structure=NEIGHBOURS)
    moved = np.zeros(native.shape, np.float32)
    if not count:
        return moved
    # By number, because two that touch may have the same confidence
    numbers = resample(components, grid.affine, native, nearest=True).astype(np.int32)
    boxes = ndimage.find_objects(numbers, max_label=count)
    confidences = np.asarray(ndimage.maximum(detection_map, components, np.arange(1, count + 1)), np.float32)
    for index in np.argsort(-confidences, kind="stable"):
        if boxes[index] is None:
            continue
        window = tuple(slice(max(side.start - 1, 0), side.stop + 1) for side in boxes[index])
        beside_stronger = ndimage.binary_dilation(moved[window] > 0, structure=NEIGHBOURS)
        pieces, found = ndimage.label((numbers[window] == index + 1) & ~beside_stronger, structure=NEIGHBOURS)
        if found:
            largest = 1 + int(np.bincount(pieces.ravel())[1:].argmax())
            moved[window][pieces == largest] = confidences[index]
    return moved


def lost_candidates(maps: Maps, moved: Maps) -> list[float]:
    """Return the confidences of the candidates without a voxel on the grid of the T2W, the highest first."""
    before, after = maps[DETECTION_MAP], moved[f"{_T2W}{DETECTION_MAP}"]
    lost = Counter(_confidences(before)) - Counter(_confidences(after))
    return sorted(lost.elements(), reverse=True)


def _confidences(detection_map: npt.NDArray[np.float32]) -> list[float]:
    components, count = ndimage.label(detection_map, structure=NEIGHBOURS)
    return np.asarray(ndimage.maximum(detection_map, components, np.arange(1, count + 1))).tolist() if count else []


def list_candidates(detection_map: npt.NDArray[np.float32], grid: Grid) -> list[dict[str, Any]]:
    """List the candidates of a detection map for the record, the most confident first.

    Returns:
        For each its confidence, volume in mm3 and centre of mass in RAS mm.
    """
    components, count = ndimage.label(detection_map, structure=NEIGHBOURS)
    numbers = np.arange(1, count + 1)
    if not count:
        return []
    confidences = ndimage.maximum(detection_map, components, numbers)
    centres = np.array(ndimage.center_of_mass(components > 0, components, numbers))
    places = centres @ grid.affine[:3, :3].T + grid.affine[:3, 3]
    volumes = np.bincount(components.ravel())[1:] * abs(np.linalg.det(grid.affine[:3, :3]))
    listed = [
        {
            "confidence": round(float(confidences[number]), 6),
            "volume_mm3": round(float(volumes[number]), 1),
            "centre_mm": [round(float(value), 1) for value in places[number]],
        }
        for number in range(count)
    ]
    return sorted(listed, key=lambda each: -each["confidence"])
