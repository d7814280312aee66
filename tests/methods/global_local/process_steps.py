"""One step of either stage in a process of several, or alone."""

from __future__ import annotations

import numpy as np
from methods.global_local.small_pretraining import (
    bare_engine,
    global_step,
    local_step,
    make_dataset,
    make_loader,
    make_network,
)

from medssl.training import join_processes, share_weights
from medssl.training.distributed import process_count, process_rank


def stepped(stage: str, *, join: bool = False) -> tuple[dict[str, np.ndarray], float]:
    """Do one step on this process's share of the batch; return the weights and the loss."""
    if join:
        join_processes(device="cpu")
    loader = make_loader(make_dataset(), rank=process_rank(), world_size=process_count())
    network = make_network(seed=process_rank())
    # Of the bright upper slices all regions are anchors and of the lower ones none, so processes compare unequal many
    embedder, step = global_step(network) if stage == "global" else local_step(network, foreground=0.65)
    share_weights(embedder, device="cpu")
    output = step(bare_engine(embedder), next(iter(loader)))
    return {name: value.numpy() for name, value in embedder.state_dict().items()}, float(output["loss"])


def joined(stage: str) -> tuple[dict[str, np.ndarray], float]:
    """`stepped` in one of several processes."""
    return stepped(stage, join=True)
