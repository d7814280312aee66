"""Floor 1: losses as pure tensor functions with a thin module on top."""

from medssl.losses.contrastive import ContrastiveLoss, PairMasks, collapse_value, contrastive_loss
from medssl.losses.dice_ce import DiceCE, dice_ce, dice_loss

__all__ = [
    "ContrastiveLoss",
    "DiceCE",
    "PairMasks",
    "collapse_value",
    "contrastive_loss",
    "dice_ce",
    "dice_loss",
]
