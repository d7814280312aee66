"""SGD whose rate follows the size of each tensor, for the large batches of contrastive pre-training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from medssl.core.errors import ConfigError


class Lars(Optimizer):
    """Layer-wise adaptive rate scaling around SGD with momentum.

    The gradient of each tensor is scaled by trust |w| / (|g| + weight_decay |w|), after weight decay was added. A
    tensor or gradient of zero keeps its plain gradient.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        momentum: Share of the last step.
        weight_decay: Share of the weights added to their gradient.
        trust: Share of its norm by which a tensor moves at rate 1.

    Raises:
        ConfigError: If a value is negative.

    Note:
        Source: You, Gitman and Ginsburg 2017, in the form that SwAV's code uses (LARC without clipping): all tensors
        are scaled, those of normalisation too.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 1e-6,
        trust: float = 0.001,
    ) -> None:
        values = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        wrong = [f"{name} {value}" for name, value in values.items() if value < 0.0]
        if wrong:
            message = f"Lars: expected values of at least 0, got {', '.join(wrong)}."
            raise ConfigError(message)
        super().__init__(params, values)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Take one step; parameters without gradient stay."""
        loss = None if closure is None else closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)
        return loss

    def _move(self, parameter: Tensor, group: dict[str, Any]) -> None:
        gradient: Tensor = parameter.grad  # type: ignore[assignment]  # the caller looked
        decay = group["weight_decay"]
        size, slope = parameter.norm(), gradient.norm()
        scale = group["trust"] * size / (slope + decay * size).clamp(min=1e-12)
        scaled = (gradient + decay * parameter) * scale
        # Decided on the device, so that no GPU has to wait
        moved = torch.where((size > 0) & (slope > 0), scaled, gradient)
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].mul_(group["momentum"]).add_(moved)
        parameter.sub_(state["momentum"], alpha=group["lr"])
