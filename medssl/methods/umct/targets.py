"""The target phase: every view predicts the unlabelled crops, and pseudo-labels are fused from the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor

from medssl.core.errors import ConfigError
from medssl.methods.umct.fusion import fuse_others, fusion_weights
from medssl.networks.multi_view_net import MultiViewNet
from medssl.networks.split import evaluation_mode
from medssl.networks.stochastic_passes import Granularity, tail_moments, uncertainty_of
from medssl.networks.views import View
from medssl.training.own_samples import keyed_generator, own_masks

_EPS = {"sample": 1e-8, "voxel": 1e-6}


class Predictions(NamedTuple):
    """What the views say about unlabelled crops, without a graph.

    Attributes:
        probabilities: One (B, C, X, Y, Z) for each view, in the common frame.
        uncertainty: (N, B), or (N, B, 1, X, Y, Z) by voxel; None without stochastic passes.
        weights: (N, N, B, ...): weight of view j in the pseudo-label of view i.
    """

    probabilities: list[Tensor]
    uncertainty: Tensor | None
    weights: Tensor


class PseudoLabels:
    """How pseudo-labels are made; the defaults are the paper's.

    Passes differ by one dropout, at the network's `dropout_place`: before the last decoder block, or before the output
    convolution. Where the paper has it is not known, and both places together are as likely.

    Args:
        passes: Stochastic passes of each view, or 0: one pass without dropout and the plain mean of the other views,
            the cheap form without uncertainty.
        chunk: Passes at once.
        power: Exponent of the confidence; 0 with passes is the plain mean of the stochastic means.
        eps: Variance below which views count as equally sure: added to a sample's mean variance (1e-8 by default), and
            the least one of a voxel (1e-6), many of which have none at all.
        max_ratio: Largest ratio between two weights, or None.
        granularity: One weight for each "sample" (the paper's) or each "voxel".
        hard: Whether a pseudo-label gives the most probable class all; the paper's are soft.
        seed: Seed of the run; masks depend on it, the iteration and the view only.

    Raises:
        ConfigError: If a number is out of range.
    """

    def __init__(
        self,
        *,
        passes: int = 10,
        chunk: int = 5,
        power: float = 1.0,
        eps: float | None = None,
        max_ratio: float | None = None,
        granularity: Granularity = "sample",
        hard: bool = False,
        seed: int = 0,
    ) -> None:
        wrong = [
            text
            for is_right, text in (
                (_is_count(passes) and passes >= 0 and passes != 1, f"passes: 0, or 2 and more, got {passes!r}"),
                (_is_count(chunk) and chunk >= 1, f"chunk: at least 1, got {chunk!r}"),
                (_is_number(power) and power >= 0.0, f"power: at least 0, got {power!r}"),
                (eps is None or (_is_number(eps) and eps > 0.0), f"eps: null, or above 0, got {eps!r}"),
                (
                    max_ratio is None or (_is_number(max_ratio) and max_ratio >= 1.0),
                    f"max_ratio: null, or at least 1, got {max_ratio!r}",
                ),
                (granularity in ("sample", "voxel"), f'granularity: "sample" or "voxel", got {granularity!r}'),
                (isinstance(hard, bool), f"hard: true or false, got {hard!r}"),
            )
            if not is_right
        ]
        if wrong:
            message = f"PseudoLabels: expected {'; '.join(wrong)}."
            raise ConfigError(message)
        self.passes = passes
        self.chunk = chunk
        self.power = power
        self.eps = _EPS[granularity] if eps is None else eps
        self.max_ratio = max_ratio
        self.granularity = granularity
        self.hard = hard
        self.seed = seed

    @torch.no_grad()
    def predict(
        self,
        network: MultiViewNet,
        image: Tensor,
        *,
        iteration: int,
        autocast: Callable[[], AbstractContextManager],
    ) -> Predictions:
        """Let every view predict crops (B, C, X, Y, Z), dropout being the only thing that is random.

        Args:
            network: The views; their modes and buffers are left as they were.
            image: Unlabelled crops in the common frame.
            iteration: Iteration of the run; keys the masks.
            autocast: Makes the context of the networks.
        """
        probabilities, uncertainties = [], []
        with evaluation_mode(network):
            for view, part in network.parts():
                with autocast():
                    features = part.decode(part.encode(view.to_view(image)))
                if not self.passes:
                    with autocast():
                        logits = part.tail(features)
                    probabilities.append(view.from_view(logits.float().softmax(1)))
                    continue
                generator = mask_generator(self.seed, "target", iteration, view)
                masks = own_masks(part, len(image), passes=self.passes, generator=generator)
                moments = tail_moments(part, features, masks, chunk=self.chunk, autocast=autocast)
                probabilities.append(view.from_view(moments.mean))
                variance = view.from_view(moments.variance)
                uncertainties.append(uncertainty_of(variance, granularity=self.granularity))
        if not uncertainties:
            equal = torch.ones(len(probabilities), len(image), device=image.device)
            return Predictions(probabilities, None, fusion_weights(equal, power=0.0))
        uncertainty = torch.stack(uncertainties)
        least, added = (self.eps, 0.0) if self.granularity == "voxel" else (0.0, self.eps)
        weights = fusion_weights(uncertainty.clamp(min=least), power=self.power, eps=added, max_ratio=self.max_ratio)
        return Predictions(probabilities, uncertainty, weights)

    def target(self, predictions: Predictions, view: int) -> Tensor:
        """Return the pseudo-label (B, C, X, Y, Z) of one view."""
        return fuse_others(predictions.probabilities, predictions.weights, view, hard=self.hard)


def mask_generator(seed: int, phase: str, iteration: int, view: View) -> torch.Generator:
    """Return the generator of one view's dropout masks; nothing else in the run draws from it."""
    return keyed_generator(seed, "dropout", phase, iteration, view.name)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value) and not isinstance(value, bool)
