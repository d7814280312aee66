"""One optimiser update: precision, scaling, clipping, accumulation and the guard against non-finite values."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents
from monai.utils.enums import CommonKeys
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from medssl.core.errors import TrainingError
from medssl.networks.layout import with_fast_layout
from medssl.networks.parts import independent_parts
from medssl.training.distributed import average_gradients, mean_over_processes, process_count
from medssl.training.patches import PatchCount
from medssl.training.precision import autocast, autocast_dtype, guard_cpu_convolutions
from medssl.training.schedules import Schedule

_logger = logging.getLogger("medssl.training")


class Step(Protocol):
    """A whole training iteration, given to `monai.engines.SupervisedTrainer(iteration_update=step)`."""

    def __call__(self, engine: Any, batch: Any) -> dict[str, Any]:
        """Compute losses, update the weights through `Optimization.update`, return what to keep."""


class Optimization:
    """What every Step needs around its losses: `autocast()` and `update(...)`.

    Args:
        network: Network whose gradients are clipped; if it has `independent_parts()` that share no weights, each of
            them on its own, as if they were trained apart.
        optimizer: Its optimiser.
        device: Where it runs.
        schedule: Learning-rate schedule, advanced once for each optimiser step; None keeps the rate.
        amp: Mixed precision on or off.
        amp_dtype: Wished dtype; see `autocast_dtype`.
        clip_norm: Largest gradient norm; None does not clip.
        accumulation: Iterations whose gradients are averaged into one optimiser step.
        max_non_finite: Non-finite iterations in a row after which training stops.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        optimizer: Optimizer,
        device: torch.device,
        schedule: Schedule | None = None,
        amp: bool = True,
        amp_dtype: torch.dtype | None = None,
        clip_norm: float | None = None,
        accumulation: int = 1,
        max_non_finite: int = 5,
    ) -> None:
        self.network = network
        self.optimizer = optimizer
        self.device = torch.device(device)
        self.schedule = schedule
        self.dtype = autocast_dtype(self.device, amp=amp, dtype=amp_dtype)
        self.clip_norm = clip_norm
        self.accumulation = accumulation
        self.max_non_finite = max_non_finite
        self.skipped = 0
        self._skipped_in_row = 0
        self._accumulated = 0
        self.patches = PatchCount(independent_parts(self.network))
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.dtype is torch.float16)
        with_fast_layout(network)
        if self.device.type == "cpu" and self.dtype is torch.bfloat16:
            guard_cpu_convolutions(network)

    @property
    def at_boundary(self) -> bool:
        """Whether no gradient is waiting, so that a checkpoint holds everything."""
        return self._accumulated == 0

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the mixed-precision context for the forward pass; losses belong outside, in float32."""
        return autocast(self.device, self.dtype)

    def update(self, engine: Engine, loss: Tensor | Iterable[Tensor], *, case_ids: Sequence[str] = ()) -> Tensor:
        """Back-propagate `loss` and step the optimiser when enough iterations have been accumulated.

        Fires MONAI's iteration events. A non-finite loss or gradient skips the step and is counted. With several
        processes, `loss` is this one's part; the mean over all is what is logged and what decides on skipping, so that
        every process decides alike.

        Args:
            engine: The trainer; its `state.output` is already set by the Step.
            loss: Scalar, float32; or several whose sum is the loss. Each is back-propagated before the next is asked
                for, so a generator over networks that share no weights keeps the graph of one of them in memory.
            case_ids: Cases of the batch, named when training has to stop.

        Returns:
            The loss, summed and without its graph.

        Raises:
            TrainingError: After `max_non_finite` non-finite iterations in a row.
        """
        total = self._backward(engine, [loss] if isinstance(loss, Tensor) else loss)
        engine.fire_event(IterationEvents.BACKWARD_COMPLETED)
        self._accumulated += 1
        total = mean_over_processes(total)
        if process_count() > 1:
            engine.state.output[CommonKeys.LOSS] = total
        if self._accumulated == self.accumulation or not torch.isfinite(total):
            self._step(total, case_ids)
        engine.fire_event(IterationEvents.MODEL_COMPLETED)
        return total

    def _backward(self, engine: Engine, losses: Iterable[Tensor]) -> Tensor:
        total = None
        for loss in losses:
            if total is None:  # of several losses, the events mark the first
                engine.fire_event(IterationEvents.FORWARD_COMPLETED)
                engine.fire_event(IterationEvents.LOSS_COMPLETED)
            self._scaler.scale(loss / self.accumulation).backward()
            total = loss.detach() if total is None else total + loss.detach()
        if total is None:
            message = "step: expected at least one loss to back-propagate, got none. Check the method's configuration."
            raise TrainingError(message)
        return total

    def _step(self, loss: Tensor, case_ids: Sequence[str]) -> None:
        self._scaler.unscale_(self.optimizer)
        if process_count() > 1 and not isinstance(self.network, DistributedDataParallel):
            average_gradients(self.network)
        finite = bool(torch.isfinite(self._clip() + loss))
        if finite:
            self._scaler.step(self.optimizer)
            if self.schedule is not None:
                self.schedule.step()
        self._scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        self._accumulated = 0
        self._count(finite, float(loss), case_ids)

    def _clip(self) -> Tensor:
        """Clip the gradients of each independent part; return the sum of their norms."""
        limit = float("inf") if self.clip_norm is None else self.clip_norm
        norms = [
            nn.utils.clip_grad_norm_(part.parameters(), limit).detach() for part in independent_parts(self.network)
        ]
        return torch.stack(norms).sum()

    def _count(self, finite: bool, loss: float, case_ids: Sequence[str]) -> None:
        if finite:
            self._skipped_in_row = 0
            return
        self.skipped += 1
        if not (self._scaler.is_enabled() and math.isfinite(loss)):
            # float16 overflows now and then while its scaler looks for the scale; that is no fault of the data
            self._skipped_in_row += 1
        names = ", ".join(case_ids) or "unknown"
        _logger.warning("loss or gradient is not finite (loss %s, cases %s): step skipped", loss, names)
        if self._skipped_in_row >= self.max_non_finite:
            message = (
                f"loss or gradients were not finite {self._skipped_in_row} times in a row; last cases: {names}. "
                "Run medssl check on the manifest, lower the learning rate, or switch mixed precision off (amp=false)."
            )
            raise TrainingError(message)

    def state_dict(self) -> dict[str, Any]:
        """Return counters and the scaler's state."""
        return {
            "skipped": self.skipped,
            "skipped_in_row": self._skipped_in_row,
            "patches": self.patches.total,
            "scaler": self._scaler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.skipped = state["skipped"]
        self._skipped_in_row = state["skipped_in_row"]
        self.patches.continue_from(state.get("patches"))  # states of earlier versions have no count
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
