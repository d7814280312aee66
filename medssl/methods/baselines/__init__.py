"""Baselines for side-by-side tables, on the networks and loaders of the methods they stand beside.

Mean teacher (Tarvainen and Valpola, NeurIPS 2017), UA-MT (Yu et al., MICCAI 2019), CPS (Chen et al., CVPR 2021) and
self-training; as a pre-training the masked autoencoder (He et al., CVPR 2022). Plain multi-view co-training is
`UmctStep` with `PseudoLabels(passes=0)`.
"""

from medssl.methods.baselines.cps import CpsStep
from medssl.methods.baselines.masked_autoencoder import MaskedAutoencoderStep, Reconstructor
from medssl.methods.baselines.mean_teacher import MeanTeacherStep
from medssl.methods.baselines.self_training import SelfTrainingStep
from medssl.methods.baselines.ua_mt import UaMtStep

__all__ = [
    "CpsStep",
    "MaskedAutoencoderStep",
    "MeanTeacherStep",
    "Reconstructor",
    "SelfTrainingStep",
    "UaMtStep",
]
