"""Contrastive pre-training on (reduced) slices and their classification: Wolf et al. 2024, "Less is More".

SwAV (Caron et al., NeurIPS 2020) and MoCo v2 (Chen et al. 2020).
"""

from medssl.methods.slice_contrast.classification import ClassificationStep
from medssl.methods.slice_contrast.moco import MocoStep
from medssl.methods.slice_contrast.queue import EmbeddingQueue
from medssl.methods.slice_contrast.slices import SliceCrops, pretraining_slices
from medssl.methods.slice_contrast.swav import SwavStep

__all__ = ["ClassificationStep", "EmbeddingQueue", "MocoStep", "SliceCrops", "SwavStep", "pretraining_slices"]
