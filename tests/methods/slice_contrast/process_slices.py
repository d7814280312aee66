"""What runs in each of several joined processes."""

from __future__ import annotations

from typing import Any

import torch
from methods.slice_contrast.small_slices import bare_engine, plain_optimization, small_network, views

from medssl.methods.slice_contrast import EmbeddingQueue, SwavStep
from medssl.training import join_processes, share_weights
from medssl.training.distributed import process_rank


def swav_iteration() -> dict[str, Any]:
    """Take one SwAV step on this process' own images; return what the joined processes have to agree on."""
    join_processes(device="cpu")
    rank = process_rank()
    network = share_weights(small_network(seed=rank), device="cpu")
    queue = EmbeddingQueue(length=6, dimensions=8, views=2)
    step = SwavStep(network=network, optimization=plain_optimization(network), frozen_iterations=0, queue=queue)
    scores = torch.randn(3, 6, generator=torch.Generator().manual_seed(rank))
    assigned = step._assignments(scores, 0, 0)
    output = step(bare_engine(), views(seed=10 + rank))
    return {
        "scores": scores.tolist(),
        "assigned": assigned.tolist(),
        "queue": queue.rows().tolist(),
        "loss": float(output["loss"]),
        "weights": [float(parameter.detach().double().sum()) for parameter in network.parameters()],
    }
