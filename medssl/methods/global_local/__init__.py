"""Contrastive learning of global and local features (Chaitanya et al., NeurIPS 2020, arXiv 2006.10511)."""

from medssl.methods.global_local.cases import pretraining_cases
from medssl.methods.global_local.crops import CropDataset
from medssl.methods.global_local.embedders import GlobalEmbedder, LocalEmbedder, decoded_size
from medssl.methods.global_local.sampling import PartitionSampler
from medssl.methods.global_local.step import GlobalContrastStep, LocalContrastStep

__all__ = [
    "CropDataset",
    "GlobalContrastStep",
    "GlobalEmbedder",
    "LocalContrastStep",
    "LocalEmbedder",
    "PartitionSampler",
    "decoded_size",
    "pretraining_cases",
]
