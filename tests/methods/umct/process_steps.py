"""One co-training step in a process of several, or alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from methods.umct.small_umct import bare_engine, make_step, small_batch, small_network

from medssl.methods.umct import PseudoLabels
from medssl.training import join_processes, share_weights
from medssl.training.distributed import process_count, process_rank


def stepped(*, join: bool = False) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], float]:
    """Do one step on this process's share of the batch; return the gradients, the weights and the logged loss.

    Other processes begin with other weights, which `share_weights` has to put right. Dropout is on in both phases.
    """
    if join:
        join_processes(device="cpu")
    network = share_weights(small_network(seed=process_rank(), dropout_rate=0.3), device="cpu")
    step = make_step(network, pseudo_labels=PseudoLabels(passes=4, chunk=3))
    gradients = watched_gradients(step.optimization.optimizer, network)
    output = step(bare_engine(network), share(small_batch(), process_rank(), process_count()))
    weights = {name: value.numpy() for name, value in network.state_dict().items()}
    return gradients, weights, float(output["loss"])


def joined() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], float]:
    """`stepped` in one of several processes."""
    return stepped(join=True)


def watched_gradients(optimizer: torch.optim.Optimizer, network: torch.nn.Module) -> dict[str, np.ndarray]:
    """Return the gradients that the optimiser's next step is going to see, filled when it is taken."""
    seen: dict[str, np.ndarray] = {}

    def look(*_: Any) -> None:
        seen.update({name: parameter.grad.numpy().copy() for name, parameter in network.named_parameters()})

    optimizer.register_step_pre_hook(look)
    return seen


def share(batch: dict[str, Any], rank: int, count: int) -> dict[str, Any]:
    """Return the part of a batch that falls to one of several processes."""
    return {
        key: share(value, rank, count) if isinstance(value, dict) else value[rank::count]
        for key, value in batch.items()
    }
