"""Learning-rate schedules: pure functions of the share of the run, and the object that applies one."""

from __future__ import annotations

import math
from collections.abc import Callable
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

    Raises:
        ConfigError: If `total_steps` is not positive or the kind is unknown.
    """

    def __init__(
        self,
        *,
        optimizer: Optimizer,
        total_steps: int,
        kind: Literal["one_cycle", "warmup_cosine", "polynomial", "constant"] = "one_cycle",
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
        self.steps = 0
        self._base_rates = [float(group["lr"]) for group in optimizer.param_groups]
        self._apply()

    def step(self) -> None:
        """Advance by one optimiser step."""
        self.steps += 1
        self._apply()

    def _apply(self) -> None:
        factor = self.factor(min(1.0, self.steps / self.total_steps))
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
