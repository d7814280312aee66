"""Uncertainty-aware multi-view co-training: Xia et al., WACV 2020 and Medical Image Analysis 65, 2020."""

from medssl.methods.umct.step import UmctStep
from medssl.methods.umct.targets import PseudoLabels

__all__ = ["PseudoLabels", "UmctStep"]
