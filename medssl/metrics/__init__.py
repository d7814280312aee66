"""Floor 1: metrics on arrays, without input or output."""

from medssl.metrics.overlap import dice
from medssl.metrics.structures import METRICS, POLICY, STATES, StructureScore, score_structure, score_structures
from medssl.metrics.surface import hausdorff95, surface_dice, surfel_areas

__all__ = [
    "METRICS",
    "POLICY",
    "STATES",
    "StructureScore",
    "dice",
    "hausdorff95",
    "score_structure",
    "score_structures",
    "surface_dice",
    "surfel_areas",
]
