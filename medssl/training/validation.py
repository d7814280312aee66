"""Validation shared by several processes, with the table that one process makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sized
from typing import Any

import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.handlers import IgniteMetricHandler
from monai.metrics import DiceMetric
from torch import nn
from torch.utils.data import Sampler

from medssl.training.distributed import process_count


class CaseSampler(Sampler):
    """Give each process a run of neighbouring cases, so that results gathered by rank are in the order of the data.

    The first processes take one case more where the cases do not divide evenly. With fewer cases than processes the
    idle ones repeat the last case, because all have to take part in the gathering; `MeanDiceOfCases` drops what they
    find. (MONAI's DistributedSampler refuses that, and takes every W-th case.)

    Args:
        data: Sized data; only its length matters. May be empty.
        rank: This process.
        world_size: Number of processes.
    """

    def __init__(self, data: Sized, *, rank: int = 0, world_size: int = 1) -> None:
        share, more = divmod(len(data), world_size)
        start = rank * share + min(rank, more)
        self.cases = range(start, start + share + (rank < more))
        if not self.cases and len(data):
            self.cases = range(len(data) - 1, len(data))

    def __len__(self) -> int:
        return len(self.cases)

    def __iter__(self) -> Iterator[int]:
        return iter(self.cases)


class MeanDiceOfCases(IgniteMetricHandler):
    """MONAI's `MeanDice` over the first len(data) gathered cases, which leaves out what idle processes repeat.

    Args:
        data: The validated data, sharded by `CaseSampler`.
        include_background: Whether channel 0 counts.
        output_transform: As in `MeanDice`.
    """

    def __init__(
        self,
        *,
        data: Sized,
        output_transform: Callable[..., Any],
        include_background: bool = False,
    ) -> None:
        metric = _DiceOfFirst(len(data), include_background=include_background)
        super().__init__(metric_fn=metric, output_transform=output_transform)


class _DiceOfFirst(DiceMetric):
    """Dice whose gathered table is cut after `count` rows."""

    def __init__(self, count: int, *, include_background: bool) -> None:
        super().__init__(include_background=include_background)
        self.count = count

    def get_buffer(self) -> Any:
        gathered = super().get_buffer()
        return gathered if gathered is None else gathered[: self.count]


class SameBuffers:
    """Give every process the main one's buffers before a validation; sits in `validate#handlers`.

    The running statistics of batch normalisation differ between processes, and the main one's are saved.

    Args:
        network: The bare network that the validator runs.
    """

    def __init__(self, *, network: nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        """Register with the validator."""
        engine.add_event_handler(Events.STARTED, self._send)

    @torch.no_grad()
    def _send(self, engine: Engine) -> None:
        if process_count() > 1:
            for buffer in self.network.buffers():
                dist.broadcast(buffer, src=0)
