"""Uncertainty-weighted label fusion: what the other views say, the surer ones louder."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medssl.core.errors import TrainingError


def fusion_weights(
    uncertainty: Tensor, *, power: float = 1.0, eps: float = 1e-8, max_ratio: float | None = None
) -> Tensor:
    """Return the weight (N, N, B, ...) of view j in the pseudo-label of view i; a view has none in its own.

    w_ij is proportional to 1 / (u_j + eps)^power over all j but i, computed from logarithms, so that a variance of 0
    gives a finite weight.

    Args:
        uncertainty: u of N views, (N, B), or (N, B, 1, X, Y, Z) for weights of each voxel.
        power: 1 is the paper's; 0 gives the plain mean of the others.
        eps: Variance below which views count as equally sure.
        max_ratio: Largest ratio between two weights, or None for no bound. A view that says "background" everywhere
            is sure of it, and would drown the others.

    Note:
        Source: Xia et al., WACV 2020, uncertainty-weighted label fusion.
    """
    logs = -power * (uncertainty.float() + eps).log()
    views = logs.shape[0]
    own = torch.eye(views, dtype=torch.bool, device=logs.device).reshape(views, views, *[1] * (logs.ndim - 1))
    others = logs.expand(views, *logs.shape).masked_fill(own, -math.inf)
    if max_ratio is not None:
        floor = others.amax(1, keepdim=True) - math.log(max_ratio)
        others = torch.maximum(others, floor).masked_fill(own, -math.inf)
    return others.softmax(1)


def fuse_others(predictions: Sequence[Tensor], weights: Tensor, view: int, *, hard: bool = False) -> Tensor:
    """Return the pseudo-label (B, C, X, Y, Z) of one view: the weighted mean of the others' probabilities.

    Args:
        predictions: Probabilities of each view in the common frame, float32, without a graph.
        weights: From `fusion_weights`.
        view: Number of the view that will learn from it.
        hard: Whether the most probable class gets all.

    Raises:
        TrainingError: If a prediction still has its graph: a gradient would flow into the view that made it.
    """
    if any(each.requires_grad for each in predictions) or weights.requires_grad:
        message = "pseudo-label: expected predictions without a graph. Compute them under torch.no_grad()."
        raise TrainingError(message)
    fused = torch.zeros_like(predictions[0])
    for other, prediction in enumerate(predictions):
        if other != view:
            weight = weights[view, other]
            fused += prediction * (weight if weight.ndim > 1 else weight[:, None, None, None, None])
    if hard:
        winner = fused.argmax(1, keepdim=True)
        return torch.zeros_like(fused).scatter_(1, winner, 1.0)
    return fused


def mean_weights(weights: Tensor) -> Tensor:
    """Return how loud each view is on average in the others' pseudo-labels, (N,); without uncertainty 1 / (N - 1)."""
    return weights.sum(0).flatten(1).mean(1) / (weights.shape[0] - 1)


def background_rules(weights: Tensor, foreground: Tensor, *, dominant: float = 0.9, share: float = 0.1) -> Tensor:
    """Tell for each view whether it decides a pseudo-label while it sees next to no foreground, (N,).

    Args:
        weights: From `fusion_weights`.
        foreground: Mean foreground probability of each view, (N,).
        dominant: Weight above which a view decides.
        share: Part of the other views' mean foreground below which a view sees next to none.
    """
    views = weights.shape[0]
    decides = weights.movedim(1, 0).flatten(1).amax(1) > dominant
    others = (foreground.sum() - foreground) / (views - 1)
    return decides & (foreground < share * others)


def view_agreement(probabilities: Sequence[Tensor]) -> Tensor:
    """Return the share of voxels for which all views name the same class, from one (B, C, X, Y, Z) for each view."""
    labels = torch.stack([each.argmax(1) for each in probabilities])
    return (labels == labels[0]).all(0).float().mean()


def view_foreground(probabilities: Sequence[Tensor]) -> Tensor:
    """Return each view's mean probability of not being background, (N,), from one (B, C, X, Y, Z) for each view."""
    return torch.stack([1.0 - each[:, 0].mean() for each in probabilities])
