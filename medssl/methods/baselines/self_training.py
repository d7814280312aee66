"""Self-training, second round: labelled crops, and crops that the network of the first round labelled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from monai.utils.enums import CommonKeys
from torch import Tensor

from medssl.core.errors import ConfigError
from medssl.methods.baselines.teaching import step_output, student_logits
from medssl.training.mixup import Mixup
from medssl.training.optimization import Optimization
from medssl.training.streams import case_ids, read_streams


class SelfTrainingStep:
    """Train on labels plus `pseudo_weight` times the same loss on pseudo-labelled crops.

    The first round is `SupervisedStep`; its network then labels the unlabelled volumes with `medssl infer`, and the
    unlabelled stream of this round carries those labels.

    Args:
        loss: Function of logits (B, K, X, Y, Z), float32, and labels (B, 1, X, Y, Z).
        optimization: The run's `Optimization`.
        pseudo_weight: Weight of the pseudo-labelled crops.
        mixup: Mixes the labelled crops with one another, and their labels, as in `SupervisedStep`.
        seed: Seed of the run; dropout depends on it, the iteration and a sample's place only.
    """

    def __init__(
        self,
        *,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimization: Optimization,
        pseudo_weight: float = 1.0,
        mixup: Mixup | None = None,
        seed: int = 0,
    ) -> None:
        self.loss = loss
        self.optimization = optimization
        self.pseudo_weight = pseudo_weight
        self.mixup = mixup
        self.seed = seed

    def __call__(self, engine: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Run one iteration of MONAI's `SupervisedTrainer`."""
        streams = read_streams(engine, batch)
        labelled, target = len(streams.labels), streams.labels
        if self.mixup is not None:
            mixed, target = self.mixup(streams.images, streams.labels, iteration=engine.state.iteration)
            streams = streams._replace(images=mixed)
        engine.network.train()
        key = (self.seed, "student", engine.state.iteration - 1)
        logits = student_logits(engine, engine.network, streams, key=key, autocast=self.optimization.autocast)
        supervised = self.loss(logits[:labelled], target)
        pseudo = supervised.new_zeros(())
        if streams.unlabeled is not None:
            pseudo = self.loss(logits[labelled:], _pseudo_labels(batch["unlabeled"]).to(logits.device))
        loss = supervised + self.pseudo_weight * pseudo
        output = step_output(streams, logits, loss, supervised_loss=supervised, pseudo_loss=pseudo)
        engine.state.output = output
        self.optimization.update(engine, loss, case_ids=case_ids(batch))
        return output


def _pseudo_labels(unlabeled: dict[str, Any]) -> Tensor:
    if CommonKeys.LABEL not in unlabeled:
        message = (
            "SelfTrainingStep: expected pseudo-labels beside the unlabelled crops, got images alone. Label them with "
            "medssl infer and the network of the first round, and give both in the unlabelled stream."
        )
        raise ConfigError(message)
    return unlabeled[CommonKeys.LABEL]
