"""The supervised step: one labelled batch, one loss, one update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monai.utils.enums import CommonKeys
from torch import Tensor

from medssl.training.mixup import Mixup
from medssl.training.optimization import Optimization


class SupervisedStep:
    """Train on labelled batches; the unlabelled stream, if any, is ignored.

    Args:
        loss: Function of logits (B, K, X, Y, Z), float32, and labels (B, 1, X, Y, Z).
        optimization: The run's `Optimization`.
        mixup: Mixes images and labels of a batch; the loss then gets distributions over classes (B, K, X, Y, Z).
    """

    def __init__(
        self, *, loss: Callable[[Tensor, Tensor], Tensor], optimization: Optimization, mixup: Mixup | None = None
    ) -> None:
        self.loss = loss
        self.optimization = optimization
        self.mixup = mixup

    def __call__(self, engine: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Run one iteration of MONAI's `SupervisedTrainer`."""
        images, labels = engine.prepare_batch(batch, engine.state.device, engine.non_blocking, **engine.to_kwargs)
        target = labels
        if self.mixup is not None:
            images, target = self.mixup(images, labels, iteration=engine.state.iteration)
        engine.network.train()
        with self.optimization.autocast():
            logits = engine.inferer(images, engine.network)
        # Losses need float32: half-precision sums over a patch overflow or lose their small terms
        loss = self.loss(logits.float(), target)
        output = {
            CommonKeys.IMAGE: images,
            CommonKeys.LABEL: labels,
            CommonKeys.PRED: logits,
            CommonKeys.LOSS: loss.detach(),
        }
        engine.state.output = output
        self.optimization.update(engine, loss, case_ids=batch.get("case_id", ()))
        return output
