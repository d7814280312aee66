"""The supervised step: one labelled batch, one loss, one update."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from monai.utils.enums import CommonKeys
from torch import Tensor
from torch.nn.functional import interpolate

from medssl.training.mixup import Mixup
from medssl.training.optimization import Optimization


class SupervisedStep:
    """Train on labelled batches; the unlabelled stream, if any, is ignored.

    A network with deep supervision returns logits of several levels, finest first; then the loss is their mean with the
    weights of `deep_supervision_loss`.

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
        levels = [logits] if isinstance(logits, Tensor) else logits
        # Losses need float32: half-precision sums over a patch overflow or lose their small terms
        loss = deep_supervision_loss(self.loss, [level.float() for level in levels], target)
        output = {
            CommonKeys.IMAGE: images,
            CommonKeys.LABEL: labels,
            CommonKeys.PRED: levels[0],
            CommonKeys.LOSS: loss.detach(),
        }
        engine.state.output = output
        self.optimization.update(engine, loss, case_ids=batch.get("case_id", ()))
        return output


def deep_supervision_loss(loss: Callable[[Tensor, Tensor], Tensor], levels: Sequence[Tensor], target: Tensor) -> Tensor:
    """Return the mean loss of the levels of a decoder, each of half the weight of the one before; of one, its loss.

    Coarse logits are enlarged to the target's grid. A target shrunk to theirs would lose lesions of a few voxels, and
    mixed targets, which are distributions, have no nearest neighbour.

    Args:
        loss: Function of logits and target.
        levels: Logits (B, K, x, y, z), finest first; those of the first level have the target's grid.
        target: Labels (B, 1, X, Y, Z) or a distribution (B, K, X, Y, Z).
    """
    total = loss(levels[0], target)
    if len(levels) == 1:
        return total
    weights = [0.5**level for level in range(len(levels))]
    for weight, logits in zip(weights[1:], levels[1:], strict=True):
        enlarged = interpolate(logits, size=target.shape[2:], mode="trilinear", align_corners=False)
        total = total + weight * loss(enlarged, target)
    return total / sum(weights)
