"""InfoNCE with a queue of negatives, as in MoCo."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, softplus


def info_nce(
    queries: Tensor, keys: Tensor, negatives: Tensor, *, temperature: float = 0.2, own: Tensor | None = None
) -> Tensor:
    """Return the mean of -log(exp(q.k / t) / (exp(q.k / t) + sum over negatives n of exp(q.n / t))).

    Cosines, computed in float32 whatever autocast says (float64 stays). Without negatives the loss is 0, with zero
    gradient; where all embeddings are equal it is ln(1 + M).

    Args:
        queries: (B, d).
        keys: (B, d), the positive of each query; its gradient is not stopped here.
        negatives: (M, d), shared by all queries.
        temperature: Divides the cosines.
        own: (B,) the row of `negatives` that is each query's own key and so no negative of it, where the keys of the
            batch are among them.

    Note:
        Source: He et al., CVPR 2020, equation 1; temperature 0.2 as in MoCo v2 (Chen et al. 2020).
    """
    with torch.autocast(queries.device.type, enabled=False):
        queries, keys, negatives = (
            normalize(rows if rows.dtype is torch.float64 else rows.float(), dim=1)
            for rows in (queries, keys, negatives)
        )
        if not len(negatives):
            return 0.0 * (queries.sum() + keys.sum())
        positive = (queries * keys).sum(1) / temperature
        pushed = queries @ negatives.T / temperature
        if own is not None:
            pushed = pushed.scatter(1, own[:, None], -torch.inf)
        return softplus(pushed.logsumexp(1) - positive).mean()
