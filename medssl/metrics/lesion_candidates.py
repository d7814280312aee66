"""Lesion candidates from a probability map, and the rules that a map of candidates must keep."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medssl.core.errors import ConfigError, ImageError

Mode = Literal["dynamic-fast", "dynamic-v2"]
Floats = NDArray[np.floating[Any]]

NEIGHBOURS = np.ones((3, 3, 3), dtype=bool)
"""Voxels that share a face, an edge or a corner belong together."""

_LOWEST_MAXIMUM = 0.01


@dataclass(frozen=True, kw_only=True)
class CandidateRule:
    """How candidates are cut out of a probability map.

    Attributes:
        mode: "dynamic-fast": everything above the map's maximum over `factor`; "dynamic-v2": the most confident
            component above that, then again in what is left, up to `most` times; or a number as fixed threshold.
        minimum_voxels: A candidate has more voxels than this; 10 are 7.5 mm3 at 0.5 x 0.5 x 3 mm.
        factor: Ratio of a maximum and the threshold that it sets.
        most: Largest number of candidates of "dynamic-v2".

    Raises:
        ConfigError: If a value is out of range.
    """

    mode: Mode | float = "dynamic-fast"
    minimum_voxels: int = 10
    factor: float = 2.5
    most: int = 5

    def __post_init__(self) -> None:
        fixed = isinstance(self.mode, int | float) and 0 < self.mode < 1
        if not (fixed or self.mode in get_args(Mode)):
            known = ", ".join(get_args(Mode))
            message = f"lesion candidates: expected {known} or a threshold between 0 and 1, found {self.mode!r}."
            raise ConfigError(message)
        if self.minimum_voxels < 0 or self.factor <= 1 or self.most < 1:
            message = (
                "lesion candidates: expected minimum_voxels of 0 or more, a factor above 1 and at least one "
                f"candidate, found {self.minimum_voxels}, {self.factor:g} and {self.most}."
            )
            raise ConfigError(message)

    def to_json(self) -> dict[str, Any]:
        """Return the rule as plain JSON values."""
        return asdict(self)


def extract_candidates(probability: Floats, rule: CandidateRule) -> NDArray[np.float32]:
    """Turn a lesion probability (X, Y, Z) into a detection map: each 26-connected candidate has one confidence.

    A candidate's confidence is its highest probability. The map of a case without any is 0 everywhere.

    Args:
        probability: From 0 to 1; float16 is computed as float32.
        rule: How to cut.

    Raises:
        ImageError: If a probability is not finite, or not from 0 to 1.

    Note:
        Source: Bosma et al. (report-guided annotation). Equal to `extract_lesion_candidates` of
        report_guided_annotation 0.3.4 in these modes.
    """
    require_probabilities(probability)
    values = probability.astype(np.float32) if probability.dtype == np.float16 else probability
    if rule.mode == "dynamic-v2":
        return _one_by_one(values, rule)
    threshold = values.max() / rule.factor if rule.mode == "dynamic-fast" else values.dtype.type(rule.mode)
    return _above(values, threshold, rule.minimum_voxels).astype(np.float32)


def require_probabilities(values: Floats) -> None:
    """Refuse values that are not finite, or not from 0 to 1.

    Raises:
        ImageError: If there are any.
    """
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 1):  # NaN fails both
        broken = int(values.size - np.isfinite(values).sum())
        found = f"{broken:,} that are NaN or infinite" if broken else f"values from {low:.4g} to {high:.4g}"
        text = f"expected probabilities from 0 to 1, found {found}."
        raise ImageError(text, fix="Predict the case again; look at the weights if this stays.", code="probability")


def require_detection_map(values: Floats) -> None:
    """Refuse a map that is no detection map: each 26-connected component must have one value from 0 to 1.

    Raises:
        ImageError: If values are out of range, or a component holds several: a probability map, or candidates that
            touch.
    """
    require_probabilities(values)
    components, count = ndimage.label(values, structure=NEIGHBOURS)
    if not count:
        return
    numbers = np.arange(1, count + 1)
    low, high = (function(values, components, numbers) for function in (ndimage.minimum, ndimage.maximum))
    mixed = int(np.count_nonzero(low != high))
    if mixed:
        text = f"expected one value in each connected candidate, found {mixed} of {count} with several."
        fix = "Write a detection map (candidates), not a probability map; candidates must not touch."
        raise ImageError(text, fix=fix, code="detection-map")


def _above(values: Floats, threshold: Any, minimum_voxels: int) -> Floats:
    """Give each large enough component of values at or above a threshold its maximum."""
    kept = np.zeros_like(values)
    components, count = ndimage.label((values >= threshold) & (values > 0), structure=NEIGHBOURS)
    sizes = np.bincount(components.ravel(), minlength=count + 1)
    for number, box in enumerate(ndimage.find_objects(components), start=1):
        if sizes[number] > minimum_voxels:
            mask = components[box] == number
            kept[box][mask] = values[box][mask].max()
    return kept


def _one_by_one(values: Floats, rule: CandidateRule) -> NDArray[np.float32]:
    left = values.copy()
    found = np.zeros_like(values)
    extracted = 0
    while extracted < rule.most and (maximum := left.max()) >= _LOWEST_MAXIMUM:
        threshold = maximum / rule.factor
        components = _above(left, threshold, rule.minimum_voxels)
        highest = components.max()
        if highest == 0:  # only components that are too small: look below them
            left[left > threshold] = 0
            continue
        # Two components may have the same maximum; the first is taken, the other in its turn
        candidate = ndimage.label(components == highest, structure=NEIGHBOURS)[0] == 1
        if not (candidate & ndimage.binary_dilation(found > 0, structure=NEIGHBOURS)).any():
            found[candidate] = highest
            extracted += 1
        left[candidate] = 0
    return found.astype(np.float32)
