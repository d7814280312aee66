"""One run on several processes: joining them, averaging over them, agreeing between them.

Everything here is also right with one process, and then costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from medssl.core.errors import ConfigError
from medssl.networks.layout import with_fast_layout

# One process may check all data, or validate one large case more, while the others wait for it
_PATIENCE = timedelta(hours=1)


def join_processes(*, device: torch.device | str) -> None:
    """Join the processes that torchrun started: nccl between GPUs, gloo between CPUs. A second call does nothing.

    Sits first in `initialize` of the multi-GPU files. Every process but the main one (rank 0) then logs warnings only.

    Args:
        device: Where this process computes, "cuda:1" or "cpu".

    Raises:
        ConfigError: If the GPU does not exist, or torchrun did not start this process.
    """
    if dist.is_initialized():
        return
    device = torch.device(device)
    if device.type == "cuda":
        _take_gpu(device)
    try:
        dist.init_process_group(backend="nccl" if device.type == "cuda" else "gloo", timeout=_PATIENCE)
    except ValueError as error:  # torch misses what torchrun tells each process
        message = (
            f"multi-GPU configuration: expected torchrun to tell this process its rank, found nothing ({error}). Start "
            "it by: torchrun --standalone --nproc_per_node=gpu ..., or leave the multi_gpu file out."
        )
        raise ConfigError(message) from error
    if not is_main_process():
        logging.disable(logging.INFO)


def _take_gpu(device: torch.device) -> None:
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        message = (
            f"device {device}: this machine shows {count} GPUs. Start as many processes on a machine as it has GPUs "
            "(torchrun --nproc_per_node=gpu), or compute on its processors with device=cpu."
        )
        raise ConfigError(message)
    torch.cuda.set_device(device)


def is_launched() -> bool:
    """Tell whether torchrun started this process, joined to the others or not yet."""
    return dist.is_available() and bool(dist.is_torchelastic_launched())


def process_count() -> int:
    """Return the number of joined processes, 1 without any."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def process_rank() -> int:
    """Return the number of this process among the joined ones, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def is_main_process() -> bool:
    """Tell whether this process is the one that writes files."""
    return process_rank() == 0


def wait_for_all() -> None:
    """Go on when every process has come here."""
    if process_count() > 1:
        dist.barrier()


def distribute(network: nn.Module, *, device: torch.device | str) -> DistributedDataParallel:
    """Move a network to the device and average its gradients over all processes.

    Every process starts with the main one's weights. The loss of a process must be a mean over its samples; then the
    averaged gradient is that of the mean over all processes' samples, as one process with a batch as large would have
    it. That holds for DiceCELoss, but not with its `batch=True`, where a Dice joins the samples of one process only.
    Batch normalisation sees the samples of its own process.

    Args:
        network: The bare network; its parameters stay the same objects.
        device: Where this process computes.
    """
    device = torch.device(device)
    # Before it is wrapped: torch lays out its gradient buckets like the parameters it finds
    network = with_fast_layout(network.to(device))
    return DistributedDataParallel(network, device_ids=[device] if device.type == "cuda" else None)


def share_weights(network: nn.Module, *, device: torch.device | str) -> nn.Module:
    """Move a network to the device and give every process the main one's weights, without wrapping it.

    For networks whose parts are passed forward and back one by one, which torch's wrapper cannot follow;
    `Optimization` then averages their gradients before each step. The same losses as for `distribute` are right.

    Args:
        network: The network; its parameters stay the same objects.
        device: Where this process computes.
    """
    network = with_fast_layout(network.to(device))
    if process_count() > 1:
        for tensor in [*network.parameters(), *network.buffers()]:
            dist.broadcast(tensor.detach(), src=0)
    return network


def average_gradients(network: nn.Module) -> None:
    """Replace each gradient by its mean over all processes; one that a process lacks counts as 0 there.

    Args:
        network: A bare network, the same in all processes.
    """
    wanted = [parameter for parameter in network.parameters() if parameter.requires_grad]
    for parameter in wanted:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if wanted:
        flat = torch.cat([parameter.grad.flatten() for parameter in wanted if parameter.grad is not None])
        for parameter, mean in zip(wanted, mean_over_processes(flat).split([p.numel() for p in wanted]), strict=True):
            parameter.grad = mean.view_as(parameter).contiguous(memory_format=torch.preserve_format)


def undistributed(network: Any) -> Any:
    """Return the bare network behind `distribute`, or the object itself."""
    return network.module if isinstance(network, DistributedDataParallel) else network


def mean_over_processes(value: Tensor) -> Tensor:
    """Average a tensor of the same shape over all processes; NaN anywhere is NaN everywhere."""
    count = process_count()
    if count == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total / count


def gather_rows(rows: Tensor) -> Tensor:
    """Return the rows of all processes, in the order of their ranks; each process brings as many.

    The gradient of a process's own rows is the sum of what all processes' losses say of them. So where every process
    computes the same loss of all rows, and gradients of parameters are then averaged, the result is that of one
    process with all rows.

    Args:
        rows: (N, ...), the same shape in all processes.
    """
    if process_count() == 1:
        return rows
    gathered: Tensor = _GatherRows.apply(rows)
    return gathered


class _GatherRows(torch.autograd.Function):
    """All rows forward, the summed gradient of the own ones backward."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(process_count())]
        dist.all_gather(parts, rows.contiguous())
        ctx.count = len(rows)
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[process_rank() * ctx.count :][: ctx.count]


class Agreement:
    """What processes tell each other beside the training: decisions and states, over CPU memory.

    Its own gloo group, so that agreeing makes no GPU wait. Making one is itself a joint act of all processes.
    """

    def __init__(self) -> None:
        shared = process_count() > 1 and dist.get_backend() != "gloo"
        self._group = dist.new_group(backend="gloo", timeout=_PATIENCE) if shared else None

    def any(self, *flags: bool) -> tuple[bool, ...]:
        """Return for each flag whether it is true in any process; all processes get the same answer."""
        if process_count() == 1:
            return flags
        votes = torch.tensor(flags, dtype=torch.int32)
        dist.all_reduce(votes, op=dist.ReduceOp.MAX, group=self._group)
        return tuple(bool(vote) for vote in votes)

    def gather(self, value: Any) -> Sequence[Any]:
        """Return the values of all processes in the order of their ranks; empty outside the main process."""
        if process_count() == 1:
            return [value]
        values = [None] * process_count() if is_main_process() else None
        dist.gather_object(value, values, dst=0, group=self._group)
        return values or []
