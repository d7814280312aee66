"""Fine-tune a slice encoder for classes, its pre-trained part frozen for the first epochs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monai.utils.enums import CommonKeys
from torch import Tensor

from medssl.networks.slice_net import SliceNet
from medssl.training.distributed import undistributed
from medssl.training.optimization import Optimization


class ClassificationStep:
    """Train on images with a class.

    While the encoder is frozen, its batch normalisation keeps the statistics of the pre-training.

    Args:
        network: The `SliceNet`, wrapped for several processes by `share_weights` or not at all: torch's own wrapper
            waits for gradients that frozen parameters do not have.
        loss: Function of scores (B, K), float32, and classes (B,).
        optimization: The run's `Optimization`.
        frozen_epochs: Epochs in which only the head learns.

    Note:
        Source: public notebooks of Wolf et al. 2024: 10 of 70 epochs.
    """

    def __init__(
        self,
        *,
        network: SliceNet,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimization: Optimization,
        frozen_epochs: int = 0,
    ) -> None:
        self.network: SliceNet = undistributed(network)
        self.loss = loss
        self.optimization = optimization
        self.frozen_epochs = frozen_epochs

    def __call__(self, engine: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Run one iteration of MONAI's `SupervisedTrainer`."""
        images, classes = engine.prepare_batch(batch, engine.state.device, engine.non_blocking, **engine.to_kwargs)
        engine.network.train()
        self._freeze(engine.state.epoch <= self.frozen_epochs)
        with self.optimization.autocast():
            scores = engine.inferer(images, engine.network)
        loss = self.loss(scores.float(), classes.long())
        output = {
            CommonKeys.IMAGE: images,
            CommonKeys.LABEL: classes,
            CommonKeys.PRED: scores,
            CommonKeys.LOSS: loss.detach(),
            "log": {"right": (scores.detach().argmax(1) == classes).float().mean()},
        }
        engine.state.output = output
        self.optimization.update(engine, loss, case_ids=batch.get("case_id", ()))
        return output

    def _freeze(self, frozen: bool) -> None:
        for module in self.network.encoder_modules():
            module.requires_grad_(not frozen)
            if frozen:
                module.eval()
