"""Floor 1: losses as pure tensor functions with a thin module on top."""

from medssl.losses.dice_ce import DiceCE, dice_ce, dice_loss

__all__ = ["DiceCE", "dice_ce", "dice_loss"]
