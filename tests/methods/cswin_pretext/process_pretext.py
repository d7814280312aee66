"""What runs in each of several joined processes, and in one alone."""

from __future__ import annotations

from typing import Any

import torch
from methods.cswin_pretext.small_pretext import batch, make_step, small_net

from medssl.methods.cswin_pretext.step import Views
from medssl.training import join_processes, share_weights
from medssl.training.distributed import average_gradients, process_count, process_rank

ROWS = 4


def joined_gradients() -> dict[str, Any]:
    """Make the same views in every process, join, and return what this process learns of its part."""
    views = same_views()
    join_processes(device="cpu")
    return gradients(views)


def same_views() -> Views:
    """Return views of four patches; processes that are joined would draw their own."""
    return make_step(small_net()).views(batch(ROWS)["image"].double(), iteration=4)


def gradients(views: Views) -> dict[str, Any]:
    """Return loss and averaged gradients of this process' part of the views."""
    net = share_weights(small_net(), device="cpu").double()
    step = make_step(net)
    share = ROWS // process_count()
    first = share * process_rank()
    rows = torch.cat([torch.arange(first, first + share) + view * ROWS for view in range(2)])
    own = Views(*(each[rows] for each in views))
    # As in a batch of its own, where patches are numbered from 0
    own = own._replace(sources=own.sources - first)
    losses, _, _ = step.losses(net(own.corrupted), own)
    torch.stack(list(losses.values())).sum().backward()
    average_gradients(net)
    found = {name: each.grad for name, each in net.named_parameters() if each.requires_grad}
    return {
        "contrast": float(losses["contrast"].detach()),
        "gradients": {name: grad.flatten()[:50].tolist() for name, grad in found.items()},
    }
