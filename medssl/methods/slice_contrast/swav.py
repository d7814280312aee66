"""SwAV: each crop of a slice predicts to which prototypes other crops of it were assigned."""

from __future__ import annotations

import math
from typing import Any

import torch
from monai.utils.enums import CommonKeys
from torch import Tensor

from medssl.core.errors import ConfigError
from medssl.losses.swav import sinkhorn_assignments, swapped_prediction
from medssl.methods.slice_contrast.queue import EmbeddingQueue
from medssl.networks.projected_net import ProjectedNet
from medssl.training.distributed import gather_rows, process_rank, undistributed
from medssl.training.health import Embedded
from medssl.training.optimization import Optimization


class SwavStep:
    """Pre-train a `ProjectedNet` with prototypes.

    Args:
        network: The `ProjectedNet`, wrapped for several processes or not.
        optimization: The run's `Optimization`.
        assigned: Crops, from the first, that are assigned to prototypes; the large ones.
        temperature: Divides the cosines in the predictions.
        epsilon: Hardness of the assignments; lower is harder.
        iterations: Rounds of Sinkhorn-Knopp.
        frozen_iterations: Iterations at the start in which prototypes do not learn.
        queue: Embeddings of earlier batches that take part in the assignments, with as many views as `assigned`; for
            batches with fewer samples than prototypes. None without.
        queue_start: Iteration from which a full queue is used.

    Raises:
        ConfigError: If the network has no prototypes, or there are no crops to assign.

    Note:
        Source: Caron et al., NeurIPS 2020. The paper on reduced CT (Wolf et al. 2024) freezes the prototypes for 313
        epochs; SwAV's own code means 313 iterations, which is the default here.
    """

    def __init__(
        self,
        *,
        network: ProjectedNet,
        optimization: Optimization,
        assigned: int = 2,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        frozen_iterations: int = 313,
        queue: EmbeddingQueue | None = None,
        queue_start: int = 0,
    ) -> None:
        self.bare: ProjectedNet = undistributed(network)
        if self.bare.prototypes is None or assigned < 1:
            message = (
                f"SwavStep: expected a network with prototypes and at least 1 assigned crop, got "
                f"{0 if self.bare.prototypes is None else 'some'} prototypes and {assigned} crops. Change network."
            )
            raise ConfigError(message)
        self.network = network
        self.optimization = optimization
        self.assigned = assigned
        self.temperature = temperature
        self.sinkhorn = {"epsilon": epsilon, "iterations": iterations}
        self.frozen_iterations = frozen_iterations
        self.queue = queue
        self.queue_start = queue_start
        self.collapse_value = math.log(self.bare.prototypes.out_features)

    def __call__(self, engine: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Run one iteration of MONAI's `SupervisedTrainer` on the `views` of a batch."""
        iteration = engine.state.iteration - 1
        crops = [view.to(engine.state.device, non_blocking=engine.non_blocking) for view in batch["views"]]
        if self.optimization.at_boundary:
            self.bare.normalize_prototypes()
        self.network.train()
        with self.optimization.autocast():
            projected = self.network(crops, train_prototypes=iteration >= self.frozen_iterations)
        large = [gather_rows(each.detach()) for each in projected.embeddings[: self.assigned]]
        assignments = [
            self._assignments(scores, number, iteration)
            for number, scores in enumerate(projected.scores[: self.assigned])
        ]
        loss = swapped_prediction(projected.scores, assignments, temperature=self.temperature)
        if self.queue is not None:
            self.queue.add(large)
        output = {
            CommonKeys.LOSS: loss.detach(),
            "embedded": Embedded(torch.cat(large), _sources(large), self.collapse_value),
            "log": {"prototypes_used": _used(assignments)},
        }
        engine.state.output = output
        self.optimization.update(engine, loss, case_ids=batch.get("case_id", ()))
        return output

    def _assignments(self, scores: Tensor, number: int, iteration: int) -> Tensor:
        """Assign the rows of one crop (B, K), beside those of other processes and of the queue."""
        everywhere = gather_rows(scores.detach())
        count, first = len(scores), process_rank() * len(scores)
        if self.queue is not None and self.queue.is_full and iteration >= self.queue_start:
            stored = self.bare.scores_of(self.queue.rows(number).to(scores.device))
            everywhere = torch.cat([everywhere, stored])
        return sinkhorn_assignments(everywhere, **self.sinkhorn)[first : first + count]  # type: ignore[arg-type]


def _sources(crops: list[Tensor]) -> Tensor:
    return torch.arange(len(crops[0]), device=crops[0].device).repeat(len(crops))


def _used(assignments: list[Tensor]) -> float:
    """Return the share of prototypes that are the first choice of some crop, of those that could be."""
    chosen = torch.cat([each.argmax(1) for each in assignments])
    return len(chosen.unique()) / min(len(chosen), assignments[0].shape[1])
