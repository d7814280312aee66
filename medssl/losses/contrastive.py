"""Contrastive losses as one function of embeddings and of who is whose positive and negative."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, softplus

from medssl.core.errors import ConfigError


class PairMasks(NamedTuple):
    """Boolean masks over ordered pairs of rows, (V, V) or (N, V, V); row a of a mask belongs to anchor a.

    Attributes:
        positives: Pairs that are pulled together; never a row with itself.
        negatives: Pairs that are pushed apart; disjoint from the positives.
    """

    positives: Tensor
    negatives: Tensor

    def to(self, device: torch.device) -> PairMasks:
        """Return the masks on a device."""
        return PairMasks(self.positives.to(device), self.negatives.to(device))


def contrastive_loss(
    embeddings: Tensor, masks: PairMasks, *, temperature: float = 0.1, decoupled: bool = False
) -> Tensor:
    """Return the mean over positive pairs (a, b) of -log(exp(s_ab) / (exp(s_ab) + sum over negatives n of exp(s_an))).

    s is the cosine of two rows by the temperature. Computed in float32 whatever autocast says (float64 stays), as
    softplus(logsumexp of negatives - s_ab), from one matrix of similarities. Anchors without negatives say nothing
    and are left out of the mean; without any pair the loss is 0, with zero gradient.

    Args:
        embeddings: (V, d), or (N, V, d) for N separate sets of rows; need not be of length 1.
        masks: Who is compared; masks of (V, V) serve all N sets.
        temperature: Divides the cosines.
        decoupled: Leave the positive pair out of the denominator: logsumexp of negatives - s_ab, which may be
            negative.

    Returns:
        Scalar. Where all rows are equal it is `collapse_value` of the masks.

    Note:
        Sources: Chaitanya et al., NeurIPS 2020, equations 1 and 2 (a sum over both directions by the number of
        unordered pairs, that is twice this mean); decoupled: Yeh et al., ECCV 2022.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        rows = embeddings if embeddings.dtype is torch.float64 else embeddings.float()
        rows = normalize(rows, dim=-1)
        similarities = rows @ rows.transpose(-1, -2) / temperature
        has_negatives = masks.negatives.any(-1, keepdim=True)
        # A row of -inf alone has no gradient but NaN, so anchors without negatives keep theirs and are masked below
        kept = similarities.masked_fill(has_negatives & ~masks.negatives, -math.inf)
        pushed = kept.logsumexp(-1, keepdim=True)
        losses = pushed - similarities if decoupled else softplus(pushed - similarities)
        counted = (masks.positives & has_negatives).expand_as(losses)
        return torch.where(counted, losses, 0.0).sum() / counted.sum().clamp(min=1)


def collapse_value(masks: PairMasks, *, decoupled: bool = False) -> float:
    """Return the loss of equal rows: the mean over pairs of log(1 + number of negatives), decoupled without the 1.

    Args:
        masks: Masks of (V, V) or (N, V, V).
        decoupled: As in `contrastive_loss`.
    """
    negatives = masks.negatives.sum(-1, keepdim=True).double()
    counted = masks.positives & (negatives > 0)
    values = (negatives if decoupled else negatives + 1.0).clamp(min=1.0).log()
    return float(torch.where(counted, values, 0.0).sum() / counted.sum().clamp(min=1))


def anchors_without_negatives(masks: PairMasks) -> int:
    """Return the number of rows that have a positive but no negative, and so do not count."""
    return int((masks.positives.any(-1) & ~masks.negatives.any(-1)).sum())


class ContrastiveLoss(nn.Module):
    """`contrastive_loss` with its options kept.

    Args:
        temperature: Divides the cosines.
        decoupled: Leave the positive pair out of the denominator.

    Raises:
        ConfigError: If the temperature is not positive.
    """

    def __init__(self, *, temperature: float = 0.1, decoupled: bool = False) -> None:
        super().__init__()
        if not temperature > 0.0:
            message = f"temperature: expected a number above 0, got {temperature}. Published is 0.1."
            raise ConfigError(message)
        self.temperature = temperature
        self.decoupled = decoupled

    def forward(self, embeddings: Tensor, masks: PairMasks) -> Tensor:
        """Return the loss of (V, d) or (N, V, d)."""
        return contrastive_loss(embeddings, masks, temperature=self.temperature, decoupled=self.decoupled)
