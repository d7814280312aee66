"""One co-training step in a process of several, or alone."""

from __future__ import annotations

from typing import Any

import numpy as np
from methods.umct.small_umct import bare_engine, make_step, small_batch, small_network

from medssl.methods.umct import PseudoLabels
from medssl.training import join_processes, share_weights
from medssl.training.distributed import process_count, process_rank


def stepped(*, join: bool = False) -> tuple[dict[str, np.ndarray], float]:
    """Do one step on this process's share of the batch; return the weights and the logged loss.

    Other processes begin with other weights, which `share_weights` has to put right. Dropout is on in both phases.
    """
    if join:
        join_processes(device="cpu")
    network = share_weights(small_network(seed=process_rank(), dropout_rate=0.3), device="cpu")
    step = make_step(network, pseudo_labels=PseudoLabels(passes=4, chunk=3))
    output = step(bare_engine(network), _share(small_batch(), process_rank(), process_count()))
    return {name: value.numpy() for name, value in network.state_dict().items()}, float(output["loss"])


def joined() -> tuple[dict[str, np.ndarray], float]:
    """`stepped` in one of several processes."""
    return stepped(join=True)


def _share(batch: dict[str, Any], rank: int, count: int) -> dict[str, Any]:
    return {
        key: _share(value, rank, count) if isinstance(value, dict) else value[rank::count]
        for key, value in batch.items()
    }
