"""Scores of one case: every class in one of four states, with a written policy for the empty ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medssl.metrics.overlap import dice, volume_error_ml, volume_error_percent
from medssl.metrics.surface import Spacing, hausdorff95, surface_dice

State = Literal["both", "missed", "false", "absent"]
STATES: tuple[State, ...] = ("both", "missed", "false", "absent")
METRICS = ("dice", "hd95_mm", "nsd", "volume_error_ml", "volume_error_percent")
POLICY = (
    "Each case and class is in one of four states. both (in reference and prediction): all metrics. "
    "missed (reference only): Dice 0, NSD 0, volume error -100%, HD95 undefined. "
    "false (prediction only): Dice 0, NSD 0, volume error in ml, its percentage and HD95 undefined. "
    "absent (in neither): every metric undefined. "
    "Undefined values are null and in no mean; every mean is over the defined cases and states their number n, "
    "and missed, false and absent are counted beside it. "
    "The mean of a case is over its classes with a defined value. "
    "A class that is absent in every case is not evaluated."
)
"""What happens to empty structures; printed with every table and written into every metrics.json."""

LabelMap = NDArray[np.integer[Any]]
Box = tuple[slice, ...]


@dataclass(frozen=True, kw_only=True)
class StructureScore:
    """Metrics of one class in one case; None is undefined under `POLICY`.

    Attributes:
        state: Where the structure exists: both, missed (reference only), false (prediction only) or absent.
        dice: Volume overlap, 0 to 1.
        hd95_mm: 95th percentile Hausdorff distance, see `hausdorff95`.
        nsd: Normalised surface Dice, see `surface_dice`.
        volume_error_ml: Prediction minus reference.
        volume_error_percent: The same, in percent of the reference.
    """

    state: State
    dice: float | None = None
    hd95_mm: float | None = None
    nsd: float | None = None
    volume_error_ml: float | None = None
    volume_error_percent: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the score as plain JSON values."""
        return asdict(self)


def score_structures(
    reference: LabelMap,
    prediction: LabelMap,
    *,
    classes: Mapping[str, tuple[int, int]],
    spacing_mm: Spacing,
    tolerance_mm: float,
    areas: NDArray[np.float64] | None = None,
) -> dict[str, StructureScore]:
    """Score every class of one case on two label maps (X, Y, Z) of the same grid.

    Each class is cropped to the box around both structures before anything is computed, which changes no value.

    Args:
        reference: Integer label map.
        prediction: Integer label map on the same grid.
        classes: For each class name its value in the reference and its value in the prediction.
        spacing_mm: Voxel sizes along the array axes.
        tolerance_mm: Distance that counts as agreement in the surface Dice.
        areas: `surfel_areas(spacing_mm)`, if it is at hand.

    Raises:
        ValueError: If the shapes differ.
    """
    if reference.shape != prediction.shape:
        message = f"expected two label maps of one shape, got {reference.shape} and {prediction.shape}."
        raise ValueError(message)
    reference_boxes, prediction_boxes = label_boxes(reference), label_boxes(prediction)
    scores = {}
    for name, (reference_value, prediction_value) in classes.items():
        boxes = [reference_boxes.get(reference_value), prediction_boxes.get(prediction_value)]
        box = _around([each for each in boxes if each is not None])
        scores[name] = score_structure(
            # NIfTI arrays are in Fortran order; walking them in C order is several times slower than this one copy
            np.ascontiguousarray(reference[box] == reference_value),
            np.ascontiguousarray(prediction[box] == prediction_value),
            spacing_mm=spacing_mm,
            tolerance_mm=tolerance_mm,
            areas=areas,
        )
    return scores


def score_structure(
    reference: NDArray[np.bool_],
    prediction: NDArray[np.bool_],
    *,
    spacing_mm: Spacing,
    tolerance_mm: float,
    areas: NDArray[np.float64] | None = None,
) -> StructureScore:
    """Score one class of one case under `POLICY`; masks (X, Y, Z) on one grid."""
    reference_voxels, prediction_voxels = int(np.count_nonzero(reference)), int(np.count_nonzero(prediction))
    state = _state(reference_voxels, prediction_voxels)
    if state == "absent":
        return StructureScore(state=state)
    hd95_mm, nsd = None, 0.0
    if state == "both":
        hd95_mm = hausdorff95(reference, prediction, spacing_mm=spacing_mm)
        nsd = surface_dice(reference, prediction, spacing_mm=spacing_mm, tolerance_mm=tolerance_mm, areas=areas)
    return StructureScore(
        state=state,
        dice=dice(reference, prediction),
        hd95_mm=hd95_mm,
        nsd=nsd,
        volume_error_ml=volume_error_ml(
            reference_voxels, prediction_voxels, voxel_volume_mm3=float(np.prod(spacing_mm))
        ),
        volume_error_percent=volume_error_percent(reference_voxels, prediction_voxels),
    )


def label_boxes(labels: LabelMap) -> dict[int, Box]:
    """Return the bounding box of every non-zero value of a label map, in one pass."""
    # scipy walks C order quickly and Fortran order, which NIfTI arrays have, ten times slower
    turned = labels.flags.f_contiguous and not labels.flags.c_contiguous
    found = ndimage.find_objects(labels.T if turned else labels)
    boxes = {value: box for value, box in enumerate(found, start=1) if box is not None}
    return {value: box[::-1] for value, box in boxes.items()} if turned else boxes


def _state(reference_voxels: int, prediction_voxels: int) -> State:
    if reference_voxels:
        return "both" if prediction_voxels else "missed"
    return "false" if prediction_voxels else "absent"


def _around(boxes: Sequence[Box]) -> Box:
    """Return the smallest box around all `boxes`, or an empty one if there are none."""
    if not boxes:
        return (slice(0, 0),) * 3
    axes = zip(*boxes, strict=True)
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in axes)
