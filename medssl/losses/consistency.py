"""Consistency of two predictions of the same crop."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def mean_square(probabilities: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference of two (B, C, X, Y, Z) over samples, classes and voxels, float32."""
    return (probabilities.float() - target.float()).square().mean()


def certain_mean_square(
    probabilities: Tensor, target: Tensor, certain: Tensor, *, voxels: Tensor | None = None
) -> Tensor:
    """Return the mean squared difference over the classes of the voxels where `certain` (B, X, Y, Z) is true.

    0, with zero gradient, where no voxel is certain.

    Args:
        probabilities: Student's probabilities (B, C, X, Y, Z).
        target: Teacher's.
        certain: Voxels that count.
        voxels: What the sum is divided by, times C; by default the number of certain voxels. Processes that share a
            batch give their mean number, because a mean of their own means is another one.

    Note:
        Source: Yu et al., MICCAI 2019 (UA-MT), equation 3, for any number of classes.
    """
    mask = certain.float()
    squares = (probabilities.float() - target.float()).square().sum(1)
    return (squares * mask).sum() / (probabilities.shape[1] * (mask.sum() if voxels is None else voxels) + 1e-8)


def predictive_entropy(probabilities: Tensor) -> Tensor:
    """Return the entropy in nats of (B, C, X, Y, Z) at each voxel, (B, X, Y, Z), from 0 to ln C."""
    probabilities = probabilities.float()
    return -(probabilities * (probabilities + 1e-6).log()).sum(1)


def certain_voxels(mean: Tensor, *, progress: float) -> Tensor:
    """Tell where the entropy of a mean prediction (B, C, X, Y, Z) is low enough, (B, X, Y, Z).

    The bound rises from 3/4 of the largest entropy, ln C, to all of it.

    Args:
        mean: Mean probability over stochastic passes.
        progress: Ramp of the run, 0 to 1.
    """
    return predictive_entropy(mean) < (0.75 + 0.25 * progress) * math.log(mean.shape[1])


def cross_supervision(logits: Tensor, other_logits: Tensor) -> Tensor:
    """Return the cross-entropy of logits (B, C, X, Y, Z) with the class that another network finds most probable.

    No gradient reaches the other network.

    Note:
        Source: Chen et al., CVPR 2021 (CPS), equation 3.
    """
    return torch.nn.functional.cross_entropy(logits.float(), other_logits.detach().argmax(1))
