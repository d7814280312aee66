"""Focal loss for rare lesions, alone or beside cross-entropy or Dice."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from medssl.core.errors import ConfigError
from medssl.losses.dice_ce import dice_ce, float32, plain

Partner = Literal["ce", "dice"]


def focal_loss(logits: Tensor, labels: Tensor, *, gamma: float = 2.0, alpha: float | None = None) -> Tensor:
    """Return the mean over voxels of -(1 - p)^gamma log p, where p is the probability of the voxel's own class.

    Easy voxels, nearly all of them where lesions are rare, weigh little. With gamma 0 it is the cross-entropy.

    Args:
        logits: Raw network output (B, C, X, Y, Z); computed in float32 at least.
        labels: Labels (B, 1, X, Y, Z).
        gamma: How much easy voxels are played down, 0 or more.
        alpha: Weight of all classes but background, from 0 to 1, which gets the rest of 1; None weighs all alike.

    Note:
        Source: Lin et al., ICCV 2017, equations 4 and 5, over a softmax.
    """
    logits = float32(plain(logits))
    index = plain(labels).long()
    with torch.autocast(logits.device.type, enabled=False):
        log_p = logits.log_softmax(1).gather(1, index)
        # The power of an exact 0 has an infinite gradient for gamma below 1
        missing = (1.0 - log_p.exp()).clamp(min=torch.finfo(log_p.dtype).eps)
        losses = -(missing**gamma) * log_p if gamma else -log_p
        if alpha is not None:
            losses = torch.where(index > 0, alpha * losses, (1.0 - alpha) * losses)
        return losses.mean()


class Focal(nn.Module):
    """Weighted sum of the focal loss and cross-entropy, or Dice of the classes but background.

    Args:
        partner: "ce" or "dice".
        focal_weight: Weight of the focal loss.
        partner_weight: Weight of the partner; 0 is the focal loss alone.
        gamma: As in `focal_loss`.
        alpha: As in `focal_loss`.

    Raises:
        ConfigError: If an option is out of range.
    """

    def __init__(
        self,
        *,
        partner: Partner = "ce",
        focal_weight: float = 0.5,
        partner_weight: float = 0.5,
        gamma: float = 2.0,
        alpha: float | None = None,
    ) -> None:
        super().__init__()
        if partner not in ("ce", "dice"):
            message = f'Focal: partner: expected "ce" or "dice", got {partner!r}.'
            raise ConfigError(message)
        if min(focal_weight, partner_weight, gamma) < 0 or focal_weight + partner_weight == 0:
            message = (
                "Focal: expected weights and gamma of at least 0, and not both weights 0, got "
                f"focal_weight {focal_weight}, partner_weight {partner_weight} and gamma {gamma}."
            )
            raise ConfigError(message)
        if alpha is not None and not 0 < alpha < 1:
            message = f"Focal: alpha: expected null or a weight between 0 and 1, got {alpha}."
            raise ConfigError(message)
        self.focal_weight, self.partner_weight = focal_weight, partner_weight
        self.gamma, self.alpha = gamma, alpha
        self.is_dice = partner == "dice"

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of logits (B, C, X, Y, Z) and labels (B, 1, X, Y, Z), a float32 scalar."""
        loss = self.focal_weight * focal_loss(logits, labels, gamma=self.gamma, alpha=self.alpha)
        if self.partner_weight:
            dice, ce = float(self.is_dice), float(not self.is_dice)
            loss = loss + self.partner_weight * dice_ce(logits, labels, dice_weight=dice, ce_weight=ce)
        return loss
