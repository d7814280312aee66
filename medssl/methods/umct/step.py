"""The UMCT step: every view learns from the labels, and from what the other views say of unlabelled crops."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from medssl.methods.umct.checks import checked_views
from medssl.methods.umct.fusion import background_rules, mean_weights, view_agreement, view_foreground
from medssl.methods.umct.gradients import gradient_logits
from medssl.methods.umct.perturbation import Perturbation
from medssl.methods.umct.targets import Predictions, PseudoLabels
from medssl.networks.fusion import fuse_logits
from medssl.networks.views import Spacing, View
from medssl.training.optimization import Optimization
from medssl.training.streams import Streams, case_ids, read_streams

_logger = logging.getLogger("medssl.training")


class UmctStep:
    """Co-train the views of a `MultiViewNet`; both stages of the method in one run.

    While `weight` is 0 (stage 1) every view learns from the labelled batch alone; from then on (stage 2) also from
    pseudo-labels of `batch["unlabeled"]`. All depends on the iteration only, so a run is resumed at any point of
    either. Targets of an iteration come from the weights at its start; then one view after the other is passed
    forward and back, so that one graph is in memory. Without unlabelled crops this is supervised multi-view training.

    Args:
        network: A `MultiViewNet`, not wrapped: each view must be passed forward on its own.
        loss: Function of logits (B, K, X, Y, Z), float32, and of labels (B, 1, ...) or a distribution (B, K, ...).
        optimization: The run's `Optimization`.
        weight: Weight of the co-training loss as a function of the iteration, such as a `Ramp`; the paper has 0.2
            from the first iteration of stage 2 on.
        spacing_mm: Voxel size of the crops, which must be cubic; "any" does not check.
        patch_size: Voxels of a crop, checked against the strides of every view; None does not check.
        pseudo_labels: How pseudo-labels are made; by default as in the paper.
        cotrain_on_labeled: Co-train on the labelled crops, without their labels, instead of unlabelled ones.
        perturbation: Changes the intensities of unlabelled crops in the gradient phase, for each view in another way;
            pseudo-labels are made from the crops as they are. The paper has nothing of the kind.

    Raises:
        ConfigError: If the network is no `MultiViewNet`, crops do not fit it, or passes would have no dropout.

    Note:
        Source: Xia et al., WACV 2020, equations of the total objective. Differences, both options of what is given:
        the paper's loss is likely Dice alone, and it is silent on dropout in the gradient phase, which is on here.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimization: Optimization,
        weight: Callable[[int], float],
        spacing_mm: Spacing,
        patch_size: Sequence[int] | None = None,
        pseudo_labels: PseudoLabels | None = None,
        cotrain_on_labeled: bool = False,
        perturbation: Perturbation | None = None,
    ) -> None:
        pseudo_labels = pseudo_labels or PseudoLabels()
        self.network = checked_views(
            network, step="UmctStep", passes=pseudo_labels.passes, patch_size=patch_size, spacing_mm=spacing_mm
        )
        self.loss = loss
        self.optimization = optimization
        self.weight = weight
        self.pseudo_labels = pseudo_labels
        self.cotrain_on_labeled = cotrain_on_labeled
        self.perturbation = perturbation
        self._told: set[str] = set()

    def __call__(self, engine: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Run one iteration of MONAI's `SupervisedTrainer`."""
        iteration = engine.state.iteration - 1
        streams = read_streams(engine, batch)
        weight = self.weight(iteration)
        unlabeled = streams.images if self.cotrain_on_labeled else streams.unlabeled
        if unlabeled is None:
            self._tell(
                "empty", "no unlabelled crops: the views learn from labels alone (supervised multi-view training)"
            )
        if weight == 0.0:
            unlabeled = None
        elif unlabeled is not None:
            self._tell("begins", "co-training begins: the loss has a second part from here on")
        predictions, watched = None, {}
        if unlabeled is not None:
            predictions = self.pseudo_labels.predict(
                self.network, unlabeled, iteration=iteration, autocast=self.optimization.autocast
            )
            watched = self._watch(predictions)
        self.network.train()
        output: dict[str, Any] = {CommonKeys.IMAGE: streams.images, CommonKeys.LABEL: streams.labels}
        engine.state.output = output
        of_views = _ViewLosses(self, streams.labels, predictions, weight)
        losses = of_views.losses(streams._replace(unlabeled=unlabeled), iteration)
        output[CommonKeys.LOSS] = self.optimization.update(engine, losses, case_ids=case_ids(batch))
        output[CommonKeys.PRED] = fuse_logits(of_views.labelled_logits)
        output["log"] = of_views.log() | watched
        return output

    def _watch(self, predictions: Predictions) -> dict[str, Tensor]:
        """Return how much foreground each view sees, and warn where one that sees none decides for the others."""
        foreground, names = view_foreground(predictions.probabilities), self.network.view_names
        for name, rules in zip(names, background_rules(predictions.weights, foreground).tolist(), strict=True):
            if rules:
                text = (
                    f"view {name} sees next to no foreground, is sure of it, and decides the other views' pseudo-labels"
                )
                # Of two views each is the other's whole target, and a bound on the ratio of weights bounds nothing
                two = len(names) == 2
                advice = "add a third view" if two else "consider max_ratio in PseudoLabels"
                self._tell(name, f"{text}; {advice}", level=logging.WARNING)
        return {f"foreground_{name}": share for name, share in zip(names, foreground, strict=True)}

    def _tell(self, key: str, text: str, *, level: int = logging.INFO) -> None:
        if key not in self._told:
            self._told.add(key)
            _logger.log(level, text)


class _ViewLosses:
    """The losses of one iteration, view by view, and what they leave for the log."""

    def __init__(self, step: UmctStep, labels: Tensor, predictions: Predictions | None, weight: float) -> None:
        self.step = step
        self.labels = labels
        self.predictions = predictions
        self.weight = weight
        self.labelled_logits: list[Tensor] = []
        self.supervised: list[Tensor] = []
        self.cotraining: list[Tensor] = []

    def losses(self, streams: Streams, iteration: int) -> Iterator[Tensor]:
        """Yield the loss of each view on labelled and unlabelled crops, float32."""
        network, labelled = self.step.network, len(self.labels)
        for number, view in enumerate(network.views):
            inputs = self._perturbed(streams, view, iteration).joined
            logits = gradient_logits(
                network,
                view,
                inputs,
                streams=(labelled, len(inputs) - labelled),
                seed=self.step.pseudo_labels.seed,
                iteration=iteration,
                autocast=self.step.optimization.autocast,
            )
            loss = self.step.loss(logits[:labelled], self.labels)
            self.supervised.append(loss.detach())
            self.labelled_logits.append(logits[:labelled].detach())
            if self.predictions is not None:
                target = self.step.pseudo_labels.target(self.predictions, number)
                cotraining = self.step.loss(logits[labelled:], target)
                self.cotraining.append(cotraining.detach())
                loss = loss + self.weight * cotraining
            yield loss

    def _perturbed(self, streams: Streams, view: View, iteration: int) -> Streams:
        if self.step.perturbation is None or streams.unlabeled is None:
            return streams
        return streams._replace(unlabeled=self.step.perturbation(streams.unlabeled, view.name, iteration))

    def log(self) -> dict[str, Tensor]:
        """Return scalars for the training log."""
        found = {"supervised_loss": torch.stack(self.supervised).mean()}
        if self.predictions is None:
            return found
        probabilities, uncertainty, weights = self.predictions
        names = self.step.network.view_names
        found["cotraining_loss"] = torch.stack(self.cotraining).mean()
        found["weight_above_0.9"] = (weights > 0.9).float().sum(1).mean()
        found["view_agreement"] = view_agreement(probabilities)
        found |= {f"weight_{name}": weight for name, weight in zip(names, mean_weights(weights), strict=True)}
        if uncertainty is not None:
            found |= {f"uncertainty_{name}": each.mean() for name, each in zip(names, uncertainty, strict=True)}
        return found
