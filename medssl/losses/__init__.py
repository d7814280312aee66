"""Floor 1: losses as pure tensor functions with a thin module on top."""

from medssl.losses.contrastive import ContrastiveLoss, PairMasks, collapse_value, contrastive_loss
from medssl.losses.dice_ce import DiceCE, dice_ce, dice_loss
from medssl.losses.focal import Focal, focal_loss
from medssl.losses.info_nce import info_nce
from medssl.losses.swav import sinkhorn_assignments, swapped_prediction

__all__ = [
    "ContrastiveLoss",
    "DiceCE",
    "Focal",
    "PairMasks",
    "collapse_value",
    "contrastive_loss",
    "dice_ce",
    "dice_loss",
    "focal_loss",
    "info_nce",
    "sinkhorn_assignments",
    "swapped_prediction",
]
