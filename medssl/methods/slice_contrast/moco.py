"""MoCo v2: a crop finds the key of another crop of its slice among the keys of earlier slices."""

from __future__ import annotations

import math
from typing import Any

import torch
from monai.utils.enums import CommonKeys
from torch import Tensor

from medssl.core.errors import ConfigError
from medssl.losses.info_nce import info_nce
from medssl.methods.slice_contrast.queue import EmbeddingQueue
from medssl.networks.projected_net import ProjectedNet
from medssl.training.distributed import gather_rows, process_rank
from medssl.training.ema import EmaTeacher
from medssl.training.health import Embedded
from medssl.training.optimization import Optimization


class MocoStep:
    """Pre-train a `ProjectedNet` against keys from its running mean.

    Args:
        network: The `ProjectedNet`, wrapped for several processes or not.
        optimization: The run's `Optimization`.
        keys: Its running mean, which makes the keys.
        queue: Keys of earlier batches, the negatives.
        temperature: Divides the cosines.
        batch_negatives: The keys of the other slices of the batch, of all processes, are negatives too. With few
            slices or few steps they are what is learnt from, as the keys of a queue were made by another network: then
            give the queue a length of 1.

    Raises:
        ConfigError: If the running mean is of another network.

    Note:
        Source: He et al., CVPR 2020; Chen et al. 2020 (v2: head of two layers, temperature 0.2). The key network is in
        evaluation mode, so no statistics of a batch tell which key belongs to it; the published one shuffles samples
        between GPUs for that. Its mean is a plain one until the decay is reached, and the queue starts empty instead
        of random. Negatives of the batch are those of MoCo v3 (Chen et al., ICCV 2021), which has no queue.
    """

    def __init__(
        self,
        *,
        network: ProjectedNet,
        optimization: Optimization,
        keys: EmaTeacher,
        queue: EmbeddingQueue,
        temperature: float = 0.2,
        batch_negatives: bool = False,
    ) -> None:
        if not isinstance(keys.network, ProjectedNet):
            message = f"MocoStep: expected keys of a ProjectedNet, got {type(keys.network).__name__}. Change keys."
            raise ConfigError(message)
        self.network = network
        self.optimization = optimization
        self.keys = keys
        self.queue = queue
        self.temperature = temperature
        self.batch_negatives = batch_negatives

    def __call__(self, engine: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Run one iteration of MONAI's `SupervisedTrainer` on the first two `views` of a batch."""
        first, second = (view.to(engine.state.device, non_blocking=engine.non_blocking) for view in batch["views"][:2])
        if self.optimization.at_boundary:
            self.keys.update()
        self.network.train()
        with self.optimization.autocast():
            queries = self.network([first]).embeddings[0]
            with torch.no_grad():
                keys = self.keys.network([second]).embeddings[0]
        everyone = gather_rows(keys.detach())
        negatives, own = self._negatives(queries, everyone)
        loss = info_nce(queries, keys, negatives, temperature=self.temperature, own=own)
        self.queue.add([everyone])
        pair, collapse = [queries.detach(), keys], math.log(1 + len(negatives) - (own is not None))
        output = {
            CommonKeys.LOSS: loss.detach(),
            "embedded": Embedded(torch.cat(pair), torch.arange(len(first)).repeat(2).to(first.device), collapse),
            "log": {"found": _found(queries.detach(), keys, negatives, own)},
        }
        engine.state.output = output
        self.optimization.update(engine, loss, case_ids=batch.get("case_id", ()))
        return output

    def _negatives(self, queries: Tensor, everyone: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the negatives (M, d), and for each query the row that is its own key, if the batch is among them."""
        queued = self.queue.rows().to(queries.device)
        if not self.batch_negatives:
            return queued, None
        first = len(queued) + process_rank() * len(queries)
        return torch.cat([queued, everyone]), first + torch.arange(len(queries), device=queries.device)


def _found(queries: Tensor, keys: Tensor, negatives: Tensor, own: Tensor | None) -> Tensor:
    """Return the share of queries whose own key is nearer than any negative."""
    if not len(negatives):
        return queries.new_ones(())
    cosines = queries @ negatives.T
    if own is not None:
        cosines = cosines.scatter(1, own[:, None], -torch.inf)
    return ((queries * keys).sum(1) > cosines.amax(1)).float().mean()
