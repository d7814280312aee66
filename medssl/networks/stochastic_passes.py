"""How sure a network is: the spread of its predictions under dropout of channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from medssl.core.errors import ConfigError
from medssl.networks.channel_dropout import fixed_masks
from medssl.networks.split import SplitNetwork

Granularity = Literal["sample", "voxel"]


class Moments(NamedTuple):
    """Mean and variance of K probabilities, both (B, C, X, Y, Z), float32."""

    mean: Tensor
    variance: Tensor


def tail_moments(
    network: SplitNetwork,
    features: Tensor,
    masks: Sequence[Tensor],
    *,
    chunk: int,
    autocast: Callable[[], AbstractContextManager],
) -> Moments:
    """Run the tail under K masks and return mean and population variance of its softmax.

    What the tail needs is computed once by the caller, so K passes cost K tails. The network should be in evaluation
    mode; the masks alone decide on dropout. The result does not depend on `chunk`.

    Args:
        network: Split network, dropout in its tail only.
        features: Output of `decode`, (B, F, X, Y, Z).
        masks: For every dropout of the network K * B rows; see `draw_masks`.
        chunk: Passes at once; more are faster and take more memory.
        autocast: Makes the context of the tail; everything after it is float32.
    """
    batch = features.shape[0]
    passes = masks[0].shape[0] // batch
    moments, done = None, 0
    for first in range(0, passes, chunk):
        count = min(chunk, passes - first)
        rows = slice(first * batch, (first + count) * batch)
        with fixed_masks(network, [mask[rows] for mask in masks]), autocast():
            logits = network.tail(features)
        new = moments_of(logits.float().softmax(1).unflatten(0, (count, batch)))
        moments = new if moments is None else merged(moments, new, counts=(done, count))
        done += count
    if moments is None:
        message = f"expected masks of at least one pass over {batch} samples, got {masks[0].shape[0]} rows."
        raise ConfigError(message)
    return moments


def moments_of(probabilities: Tensor) -> Moments:
    """Return the moments of (K, B, C, X, Y, Z) over K, float32.

    In two passes: mean(p^2) - mean(p)^2 loses every digit where p is near 1, and may be negative.
    """
    probabilities = probabilities.float()
    mean = probabilities.mean(0)
    return Moments(mean, (probabilities - mean).square_().mean(0))


def merged(first: Moments, second: Moments, *, counts: tuple[int, int]) -> Moments:
    """Return the moments of two groups of passes together.

    Note:
        Source: Chan, Golub and LeVeque 1983, equation 2.1.
    """
    share = counts[1] / (counts[0] + counts[1])
    step = second.mean - first.mean
    variance = torch.lerp(first.variance, second.variance, share) + step.square() * (share * (1.0 - share))
    return Moments(first.mean + step * share, variance)


def uncertainty_of(variance: Tensor, *, granularity: Granularity = "sample") -> Tensor:
    """Reduce a variance (B, C, X, Y, Z) to one number for each sample (B,), or for each voxel (B, 1, X, Y, Z).

    Args:
        variance: Predictive variance.
        granularity: "sample" is the paper's; "voxel" an ablation.
    """
    return variance.flatten(1).mean(1) if granularity == "sample" else variance.mean(1, keepdim=True)
