"""Learning-rate schedules: pure functions of the share of the run, and the object that applies one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch.optim import Optimizer

from medssl.core.errors import ConfigError


def one_cycle(share: float) -> float:
    """Rise by a cosine from 0.04 to 1 over the first 30%, then fall by a cosine to 4e-6."""
    if share < 0.3:
        return 0.04 + 0.96 * _cosine(share / 0.3)
    return 1.0 - (1.0 - 4e-6) * _cosine((share - 0.3) / 0.7)


def warmup_cosine(share: float) -> float:
    """Rise linearly over the first 5%, then fall by a cosine to 0."""
    if share < 0.05:
        return share / 0.05
    return 1.0 - _cosine((share - 0.05) / 0.95)


def polynomial(share: float) -> float:
    """Fall as (1 - share) ** 0.9."""
    return (1.0 - share) ** 0.9


def constant(share: float) -> float:
    """Stay at 1."""
    return 1.0


def _cosine(share: float) -> float:
    return (1.0 - math.cos(math.pi * share)) / 2.0


_KINDS: dict[str, Callable[[float], float]] = {
    "one_cycle": one_cycle,
    "warmup_cosine": warmup_cosine,
    "polynomial": polynomial,
    "constant": constant,
}


class Schedule:
    """Set the learning rate of every parameter group to its base rate times a factor of the share done.

    The length is not part of the saved state, so a run that is resumed with more epochs follows the longer curve.

    Args:
        optimizer: Optimiser whose current rates are the base rates.
        total_steps: Optimiser steps of the whole run.
        kind: Name of the curve.
        stages: Pairs (share of the run, factor): from that share on the rate is multiplied by the factor. UMCT's
            published rates are kind "constant" with [[0.8, 0.142857]].

    Raises:
        ConfigError: If `total_steps` is not positive or the kind is unknown.
    """

    def __init__(
        self,
        *,
        optimizer: Optimizer,
        total_steps: int,
        kind: Literal["one_cycle", "warmup_cosine", "polynomial", "constant"] = "one_cycle",
        stages: Sequence[tuple[float, float]] = (),
    ) -> None:
        if total_steps < 1:
            message = f"schedule: expected at least 1 step, got {total_steps}. Check epochs and iterations_per_epoch."
            raise ConfigError(message)
        if kind not in _KINDS:
            message = f"schedule: unknown kind {kind!r}; the kinds are {', '.join(_KINDS)}."
            raise ConfigError(message)
        self.optimizer = optimizer
        self.total_steps = int(total_steps)
        self.factor = _KINDS[kind]
        self.stages = tuple((float(share), float(factor)) for share, factor in stages)
        self.steps = 0
        self._base_rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._apply()

    def step(self) -> None:
        """Advance by one optimiser step."""
        self.steps += 1
        self._apply()

    def _apply(self) -> None:
        share = min(1.0, self.steps / self.total_steps)
        factor = self.factor(share) * math.prod(factor for begin, factor in self.stages if share >= begin)
        for group, rate in zip(self.optimizer.param_groups, self._base_rates, strict=True):
            group["lr"] = rate * factor

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps done and the base rates."""
        return {"steps": self.steps, "base_rates": self._base_rates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned and set the rates accordingly."""
        self.steps = int(state["steps"])
        self._base_rates = [float(rate) for rate in state["base_rates"]]
        self._apply()


class Ramp:
    """A weight that is 0 up to an iteration, rises, and then stays; a function of the iteration alone.

    The rise is `final * exp(-5 (1 - t / length)^2)` with t counted from `start`, so it begins at 0.7% of the final
    weight.

    Args:
        final: Weight after the rise.
        start: Iterations without any weight.
        length: Iterations of the rise; 0 jumps to the final weight.

    Raises:
        ConfigError: If a number is negative or none.

    Note:
        Source: Laine and Aila, ICLR 2017, in the form that semi-supervised segmentation uses, but with its length in
        iterations of this run, so that a shorter run is not left at the foot of the rise.
    """

    def __init__(self, *, final: float, start: int = 0, length: int = 0) -> None:
        if not (start >= 0 and length >= 0):
            message = f"ramp: expected start and length of at least 0 iterations, got {start} and {length}."
            raise ConfigError(message)
        if not 0.0 <= final < math.inf:
            message = f"ramp: expected a final weight of at least 0, got {final}."
            raise ConfigError(message)
        self.final = final
        self.start = int(start)
        self.length = int(length)

    def __call__(self, iteration: int) -> float:
        """Return the weight of an iteration, counted from 0."""
        done = iteration - self.start
        if done < 0:
            return 0.0
        if done >= self.length:
            return self.final
        return self.final * math.exp(-5.0 * (1.0 - done / self.length) ** 2)
