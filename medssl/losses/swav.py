"""SwAV: codes of equal use for all prototypes, and their prediction from other crops of the same image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import log_softmax

from medssl.core.errors import ConfigError


def sinkhorn_assignments(scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3) -> Tensor:
    """Turn scores (N, K) into soft assignments (N, K) of samples to prototypes that use all prototypes alike.

    Columns and rows of exp(scores / epsilon) are scaled in turn, so that at the end every row sums to 1 and columns
    sum to nearly N / K. Computed with logarithms in float32 (float64 stays), so nothing overflows; without gradient.

    Args:
        scores: Cosines of N samples with K prototypes.
        epsilon: Lower is harder.
        iterations: Rounds of scaling.

    Note:
        Source: Caron et al., NeurIPS 2020, section 3.1 and its code.
    """
    with torch.no_grad(), torch.autocast(scores.device.type, enabled=False):
        logarithms = (scores if scores.dtype is torch.float64 else scores.float()) / epsilon
        for _ in range(iterations):
            logarithms = logarithms - logarithms.logsumexp(0, keepdim=True)
            logarithms = logarithms - logarithms.logsumexp(1, keepdim=True)
        return logarithms.exp()


def swapped_prediction(scores: Sequence[Tensor], assignments: Sequence[Tensor], *, temperature: float = 0.1) -> Tensor:
    """Return the mean cross-entropy of each crop's prediction with the assignments of the other crops.

    A network that maps everything to one point has the loss ln K at best.

    Args:
        scores: Cosines (B, K) with the prototypes, one tensor for each crop; the crops with assignments come first.
        assignments: Target distributions (B, K) of the first crops, without gradient.
        temperature: Divides the cosines.

    Raises:
        ConfigError: If there is no crop to predict an assignment from.

    Note:
        Source: Caron et al., NeurIPS 2020, equation 2, with multi-crop; a mean over pairs instead of a sum.
    """
    if not assignments or len(scores) < 2 or len(scores) < len(assignments):
        message = (
            f"swapped prediction: expected at least 2 crops and as many as have assignments, got {len(scores)} crops "
            f"and {len(assignments)} assignments. Add crops."
        )
        raise ConfigError(message)
    with torch.autocast(scores[0].device.type, enabled=False):
        predictions = [
            log_softmax((each if each.dtype is torch.float64 else each.float()) / temperature, dim=1) for each in scores
        ]
        losses = [
            -(target * predicted).sum(1).mean()
            for number, target in enumerate(assignments)
            for other, predicted in enumerate(predictions)
            if other != number
        ]
        return torch.stack(losses).mean()
