"""Uncertainty-aware multi-view co-training: Xia et al., WACV 2020 and Medical Image Analysis 65, 2020."""

from medssl.methods.umct.drift import DriftGuard
from medssl.methods.umct.perturbation import Perturbation
from medssl.methods.umct.source_free import SourceFreeStep
from medssl.methods.umct.step import UmctStep
from medssl.methods.umct.targets import PseudoLabels

__all__ = ["DriftGuard", "Perturbation", "PseudoLabels", "SourceFreeStep", "UmctStep"]
