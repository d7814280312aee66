"""Match lesion candidates with the lesions of the reference, one case at a time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from medssl.metrics.lesion_candidates import NEIGHBOURS, Floats

MINIMUM_OVERLAP = 0.10
"""Intersection over union from which a candidate can match a lesion."""

# Keeps the quotient defined for an empty union, as in picai_eval; it changes no other decision
_EPSILON = 1e-8

Outcome = Literal["hit", "false", "second"]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One connected component of a detection map.

    Attributes:
        confidence: Its value.
        voxels: Its size.
        outcome: "hit": matched with a lesion; "false": no lesion lies there; "second": enough overlap with a lesion
            that another candidate is matched with, which counts for nothing.
        overlap: Intersection over union with the matched lesion, 0 without one.
        centre: Voxel index of its centre of mass.
    """

    confidence: float
    voxels: int
    outcome: Outcome
    overlap: float
    centre: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the candidate as plain JSON values."""
        return asdict(self) | {"centre": list(self.centre)}


@dataclass(frozen=True, kw_only=True)
class LesionMatch:
    """What the detection map of one case found.

    Attributes:
        candidates: The candidates, the most confident first.
        lesions: Number of lesions in the reference.
        confidence: Highest value of the detection map: how likely the case is positive.
        missed_centres: Voxel index of the centre of mass of each lesion without a candidate, the largest first.
    """

    candidates: tuple[Candidate, ...]
    lesions: int
    confidence: float
    missed_centres: tuple[tuple[float, ...], ...] = ()

    @property
    def found(self) -> int:
        """Number of lesions that a candidate was matched with."""
        return sum(candidate.outcome == "hit" for candidate in self.candidates)

    @property
    def missed(self) -> int:
        """Number of lesions without a candidate."""
        return self.lesions - self.found

    @property
    def entries(self) -> list[tuple[int, float, float]]:
        """(is lesion, confidence, overlap) of each hit, false candidate and missed lesion, as picai_eval lists them."""
        counted = [each for each in self.candidates if each.outcome != "second"]
        hits = [(int(each.outcome == "hit"), each.confidence, each.overlap) for each in counted]
        return hits + [(1, 0.0, 0.0)] * self.missed


def match_lesions(
    detection: Floats, reference: NDArray[Any], *, minimum_overlap: float = MINIMUM_OVERLAP
) -> LesionMatch:
    """Match the candidates of a detection map (X, Y, Z) with the lesions of a reference of the same shape.

    As many pairs as possible are matched among those that overlap enough, and among equally many the pairs that
    overlap most.

    Args:
        detection: Each 26-connected component is a candidate, its highest value the confidence.
        reference: Non-zero inside lesions; each 26-connected component is one.
        minimum_overlap: Intersection over union from which a pair can be matched; above 0.

    Raises:
        ValueError: If the shapes differ.

    Note:
        Source: PI-CAI challenge; equal to picai_eval 1.4.13 with its defaults.
    """
    if detection.shape != reference.shape:
        message = f"detection map {detection.shape} and reference {reference.shape} differ in shape"
        raise ValueError(message)
    candidates, count = ndimage.label(detection, structure=NEIGHBOURS)
    lesions, lesion_count = ndimage.label(reference, structure=NEIGHBOURS)
    sizes = np.bincount(candidates.ravel(), minlength=count + 1)[1:]
    overlaps = _overlaps(candidates, lesions, count, lesion_count)
    overlaps[overlaps < minimum_overlap] = 0
    pairs = _assign(overlaps)
    matched = {candidate: float(overlaps[lesion, candidate]) for lesion, candidate in pairs}
    numbers = np.arange(1, count + 1)
    confidences = ndimage.maximum(detection, candidates, numbers) if count else []
    centres = ndimage.center_of_mass(candidates > 0, candidates, numbers) if count else []
    listed = [
        Candidate(
            confidence=float(confidences[number]),
            voxels=int(sizes[number]),
            outcome="hit" if number in matched else "second" if overlaps[:, number].any() else "false",
            overlap=matched.get(number, 0.0),
            centre=tuple(float(index) for index in centres[number]),
        )
        for number in range(count)
    ]
    return LesionMatch(
        candidates=tuple(sorted(listed, key=lambda each: -each.confidence)),
        lesions=lesion_count,
        confidence=float(detection.max()),
        missed_centres=_centres(lesions, {*range(lesion_count)} - {lesion for lesion, _ in pairs}),
    )


def _centres(components: NDArray[np.int32], numbers: set[int]) -> tuple[tuple[float, ...], ...]:
    """Return the centres of mass of components, counted from 0, the largest first."""
    wanted = sorted(number + 1 for number in numbers)
    sizes = np.bincount(components.ravel())
    largest_first = sorted(wanted, key=lambda number: -int(sizes[number]))
    centres = ndimage.center_of_mass(components > 0, components, largest_first) if largest_first else []
    return tuple(tuple(float(index) for index in centre) for centre in centres)


def _overlaps(
    candidates: NDArray[np.int32], lesions: NDArray[np.int32], count: int, lesion_count: int
) -> NDArray[np.float64]:
    """Return intersection over union of each lesion (rows) and candidate (columns), from one pass over the voxels."""
    pairs = lesions.astype(np.int64).ravel() * (count + 1) + candidates.ravel()
    table = np.bincount(pairs, minlength=(lesion_count + 1) * (count + 1)).reshape(lesion_count + 1, count + 1)
    both = table[1:, 1:].astype(np.float64)
    either = table.sum(1)[1:, None] + table.sum(0)[None, 1:] - both
    return np.asarray((both + _EPSILON) / (either + _EPSILON))


def _assign(overlaps: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Return the matched pairs of lesion and candidate."""
    # One more than the overlap: another pair is worth more than any overlap
    rows, columns = linear_sum_assignment(overlaps + (overlaps > 0), maximize=True)
    pairs = zip(rows.tolist(), columns.tolist(), strict=True)
    return [pair for pair in pairs if overlaps[pair] > 0]
