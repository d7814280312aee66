"""Cross pseudo supervision: two networks label the unlabelled crops for each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from medssl.core.errors import ConfigError
from medssl.losses.consistency import cross_supervision
from medssl.methods.baselines.teaching import step_output, student_logits
from medssl.networks.fusion import fuse_logits
from medssl.networks.twin_net import TwinNet
from medssl.training.optimization import Optimization
from medssl.training.streams import case_ids, read_streams


class CpsStep:
    """Train both networks of a `TwinNet` on labels plus `weight` times the cross-entropy with the other's classes.

    Args:
        network: A `TwinNet`, not wrapped.
        loss: Function of logits (B, K, X, Y, Z), float32, and labels (B, 1, X, Y, Z).
        optimization: The run's `Optimization`.
        weight: Weight as a function of the iteration; published is a `Ramp` to 0.1.
        seed: Seed of the run; dropout depends on it, the iteration and a sample's place only.

    Raises:
        ConfigError: If the network is no `TwinNet`.

    Note:
        Source: Chen et al., CVPR 2021.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        loss: Callable[[Tensor, Tensor], Tensor],
        optimization: Optimization,
        weight: Callable[[int], float],
        seed: int = 0,
    ) -> None:
        if not isinstance(network, TwinNet):
            message = f"CpsStep: expected a TwinNet, got {type(network).__name__}. Each twin learns from the other."
            raise ConfigError(message)
        self.network = network
        self.loss = loss
        self.optimization = optimization
        self.weight = weight
        self.seed = seed

    def __call__(self, engine: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Run one iteration of MONAI's `SupervisedTrainer`."""
        iteration = engine.state.iteration - 1
        streams, weight = read_streams(engine, batch), self.weight(iteration)
        labelled = len(streams.labels)
        self.network.train()
        autocast, key = self.optimization.autocast, (self.seed, "student", iteration)
        pair = [
            student_logits(engine, part, streams, key=(*key, number), autocast=autocast)
            for number, part in enumerate(self.network.twins())
        ]
        supervised = [self.loss(logits[:labelled], streams.labels) for logits in pair]
        crossed = [logits.new_zeros(()) for logits in pair]
        if streams.unlabeled is not None:
            first, second = (logits[labelled:] for logits in pair)
            crossed = [cross_supervision(first, second), cross_supervision(second, first)]
        losses = [own + weight * cross for own, cross in zip(supervised, crossed, strict=True)]
        fused = fuse_logits([logits[:labelled].detach() for logits in pair])
        log = {"supervised_loss": sum(supervised) / 2, "consistency_loss": sum(crossed) / 2}
        output = step_output(streams, fused, sum(losses, start=losses[0].new_zeros(())), **log)
        engine.state.output = output
        self.optimization.update(engine, losses, case_ids=case_ids(batch))
        return output
