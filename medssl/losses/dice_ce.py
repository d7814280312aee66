"""Soft Dice and cross-entropy for hard labels and for soft ones, such as pseudo-labels."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from medssl.core.errors import ConfigError

_SMOOTH = 1e-5


def dice_loss(
    probabilities: Tensor, target: Tensor, *, include_background: bool = False, squared: bool = True
) -> Tensor:
    """Return 1 - soft Dice of (B, C, X, Y, Z) and a target of the same shape, meaned over samples and classes.

    A class that is absent from both counts as a perfect 1.

    Args:
        probabilities: Softmax output; sums over a patch are taken in float32 at least.
        target: One-hot labels or a distribution over classes.
        include_background: Whether class 0 counts.
        squared: Squares in the denominator (V-Net). With them the loss of a soft target is 0, with zero gradient, at
            p = y; without them it is lower for predictions harder than the target.
    """
    first = 0 if include_background or probabilities.shape[1] == 1 else 1
    predicted, expected = (float32(values[:, first:]).flatten(2) for values in (probabilities, target))
    intersection = (predicted * expected).sum(2)
    if squared:
        predicted, expected = predicted.square(), expected.square()
    total = predicted.sum(2) + expected.sum(2)
    return (1.0 - (2.0 * intersection + _SMOOTH) / (total + _SMOOTH)).mean()


def dice_ce(
    logits: Tensor,
    target: Tensor,
    *,
    dice_weight: float = 0.5,
    ce_weight: float = 0.5,
    include_background: bool = False,
    squared: bool = True,
) -> Tensor:
    """Return weighted soft Dice plus cross-entropy of logits (B, C, X, Y, Z), a float32 scalar.

    The default weights, squared denominators and Dice without background are those that every semi-supervised method
    here shares; equal to `monai.losses.DiceCELoss(include_background=False, squared_pred=True, lambda_dice=0.5,
    lambda_ce=0.5)` on hard labels. Cross-entropy always includes the background.

    Args:
        logits: Raw network output of at least two classes.
        target: Labels (B, 1, X, Y, Z), or a distribution over classes (B, C, X, Y, Z).
        dice_weight: Weight of Dice; 1 with `ce_weight` 0 is Dice alone.
        ce_weight: Weight of the cross-entropy.
        include_background: Whether Dice counts class 0.
        squared: Squares in the denominator of Dice.
    """
    logits = float32(plain(logits))
    target = plain(target)
    is_hard = target.shape[1] == 1
    # Whatever autocast the caller is in: sums over a patch overflow in half precision
    with torch.autocast(logits.device.type, enabled=False):
        labels = target[:, 0].long() if is_hard else float32(target)
        loss = ce_weight * cross_entropy(logits, labels) if ce_weight else logits.new_zeros(())
        if dice_weight:
            expected = one_hot(labels, logits.shape[1]).movedim(-1, 1) if is_hard else labels
            dice = dice_loss(logits.softmax(1), expected, include_background=include_background, squared=squared)
            loss = loss + dice_weight * dice
    return loss


class DiceCE(nn.Module):
    """`dice_ce` with its options held.

    Args:
        dice_weight: Weight of Dice.
        ce_weight: Weight of the cross-entropy.
        include_background: Whether Dice counts class 0.
        squared: Squares in the denominator of Dice.

    Raises:
        ConfigError: If a weight is negative or both are 0.
    """

    def __init__(
        self,
        *,
        dice_weight: float = 0.5,
        ce_weight: float = 0.5,
        include_background: bool = False,
        squared: bool = True,
    ) -> None:
        super().__init__()
        if min(dice_weight, ce_weight) < 0.0 or dice_weight + ce_weight == 0.0:
            message = (
                f"DiceCE: expected weights of at least 0, not both 0, got dice_weight {dice_weight} "
                f"and ce_weight {ce_weight}."
            )
            raise ConfigError(message)
        self.options = {
            "dice_weight": dice_weight,
            "ce_weight": ce_weight,
            "include_background": include_background,
            "squared": squared,
        }

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of logits (B, C, X, Y, Z) and labels (B, 1, ...) or a distribution (B, C, ...)."""
        return dice_ce(logits, target, **self.options)  # type: ignore[arg-type]  # a dict of floats and flags


def plain(values: Tensor) -> Tensor:
    """Return a tensor without MONAI's metadata, which MetaTensor copies at every operation."""
    return values.as_subclass(Tensor)


def float32(values: Tensor) -> Tensor:
    """Return values in float32; float64 stays."""
    return values if values.dtype is torch.float64 else values.float()
