"""Source-free adaptation: trained views co-train on unlabelled crops of another site, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from medssl.core.errors import ConfigError
from medssl.methods.umct.checks import checked_views
from medssl.methods.umct.drift import DriftGuard
from medssl.methods.umct.fusion import view_agreement, view_foreground
from medssl.methods.umct.gradients import gradient_logits
from medssl.methods.umct.targets import Predictions, PseudoLabels
from medssl.networks.fusion import fuse_logits
from medssl.networks.views import Spacing
from medssl.training.optimization import Optimization
from medssl.training.streams import case_ids, read_images


class SourceFreeStep:
    """Minimise the co-training loss alone, starting from views that were trained at the source.

    No labelled case, and no file of the source but its weights, takes part. What the classes are is held by the views
    against each other, by the guard, and on demand by an anchor to the source's weights.

    Args:
        network: A `MultiViewNet` filled with the source's weights, not wrapped.
        loss: Function of logits (B, K, X, Y, Z), float32, and of a distribution (B, K, X, Y, Z).
        optimization: The run's `Optimization`.
        guard: Stops the run when classes grow or vanish; holds the source network.
        spacing_mm: Voxel size of the crops, which must be cubic; "any" does not check.
        patch_size: Voxels of a crop, checked against the strides of every view; None does not check.
        weight: Weight of the co-training loss. With adaptive optimisers only its relation to the anchor matters.
        anchor: Weight of the squared distance to the source's weights, summed; 0 leaves it out.
        pseudo_labels: How pseudo-labels are made; by default as in the paper.

    Raises:
        ConfigError: If the network is no `MultiViewNet`, crops do not fit it, passes would have no dropout, or a weight
            is out of range.

    Note:
        Source: Xia et al., Medical Image Analysis 65, 2020, adaptation without source data. The paper's schedule is
        not known; guard and anchor are ours.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimization: Optimization,
        guard: DriftGuard,
        spacing_mm: Spacing,
        patch_size: Sequence[int] | None = None,
        weight: float = 0.2,
        anchor: float = 0.0,
        pseudo_labels: PseudoLabels | None = None,
    ) -> None:
        if weight <= 0.0 or anchor < 0.0:
            message = (
                "SourceFreeStep: expected a weight above 0 and an anchor of at least 0, got "
                f"{weight} and {anchor}. Change cotraining_weight or anchor."
            )
            raise ConfigError(message)
        pseudo_labels = pseudo_labels or PseudoLabels()
        self.network = checked_views(
            network, step="SourceFreeStep", passes=pseudo_labels.passes, patch_size=patch_size, spacing_mm=spacing_mm
        )
        self.loss = loss
        self.optimization = optimization
        self.guard = guard
        self.weight = weight
        self.anchor = anchor
        self.pseudo_labels = pseudo_labels

    def __call__(self, engine: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Run one iteration of MONAI's `SupervisedTrainer` on a batch without labels."""
        iteration, autocast = engine.state.iteration - 1, self.optimization.autocast
        image = read_images(engine, batch)
        predictions = self.pseudo_labels.predict(self.network, image, iteration=iteration, autocast=autocast)
        self.guard.look(predictions.probabilities, image, iteration=iteration, autocast=autocast)
        self.network.train()
        output: dict[str, Any] = {CommonKeys.IMAGE: image}
        engine.state.output = output
        logits: list[Tensor] = []
        losses = self._losses(image, predictions, iteration, logits)
        output[CommonKeys.LOSS] = self.optimization.update(engine, losses, case_ids=case_ids(batch))
        output[CommonKeys.PRED] = fuse_logits(logits)
        output["log"] = {
            "view_agreement": view_agreement(predictions.probabilities),
            "foreground": view_foreground(predictions.probabilities).mean(),
        }
        return output

    def _losses(self, image: Tensor, predictions: Predictions, iteration: int, kept: list[Tensor]) -> Iterator[Tensor]:
        """Yield the loss of each view; its logits, without a graph, go into `kept`."""
        for number, view in enumerate(self.network.views):
            logits = gradient_logits(
                self.network,
                view,
                image,
                streams=(len(image),),
                seed=self.pseudo_labels.seed,
                iteration=iteration,
                autocast=self.optimization.autocast,
            )
            kept.append(logits.detach())
            loss = self.weight * self.loss(logits, self.pseudo_labels.target(predictions, number))
            yield loss + self._distance(view.name) if self.anchor else loss

    def _distance(self, view: str) -> Tensor:
        """Return the weighted squared distance of one view's weights to the source's."""
        pairs = zip(
            self.network.networks[view].parameters(), self.guard.source.networks[view].parameters(), strict=True
        )
        return self.anchor * torch.stack([(own - source).square().sum() for own, source in pairs]).sum()
