"""A teacher whose weights are the running mean of the student's."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from medssl.core.errors import ConfigError


class EmaTeacher:
    """Keep a second network as the exponential moving average of the first.

    Update t (from 0) takes min(1 - 1 / (t + 1), decay) of the old teacher: the first copies the student, and until the
    bound is reached the teacher is the plain mean of all students so far. Buffers are copied. The teacher stays in
    evaluation mode and has no gradients. Belongs into the resume file's parts.

    Args:
        teacher: Network of the student's architecture; its own weights are overwritten by the first update.
        student: Network that is trained.
        decay: Bound of the share of the old teacher, 0 to below 1.

    Raises:
        ConfigError: If the decay lies outside, or the two networks differ.

    Note:
        Source: Tarvainen and Valpola, NeurIPS 2017.
    """

    def __init__(self, *, teacher: nn.Module, student: nn.Module, decay: float = 0.99) -> None:
        if not 0.0 <= decay < 1.0:
            message = f"teacher: expected a decay of at least 0 and below 1, got {decay}."
            raise ConfigError(message)
        shapes = [{name: tensor.shape for name, tensor in net.state_dict().items()} for net in (teacher, student)]
        if shapes[0] != shapes[1] or teacher is student:
            message = (
                "teacher: expected a second network of the student's architecture. Give both the same network_def."
            )
            raise ConfigError(message)
        self.network = teacher.eval().requires_grad_(False)
        self.student = student
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the student as it is; called at the start of an iteration, before targets are made."""
        share = min(1.0 - 1.0 / (self.updates + 1), self.decay)
        for own, given in zip(self.network.parameters(), self.student.parameters(), strict=True):
            own.lerp_(given, 1.0 - share)
        for buffer, followed in zip(self.network.buffers(), self.student.buffers(), strict=True):
            buffer.copy_(followed)
        self.network.eval()
        self.updates += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the teacher's weights and the number of updates."""
        return {"updates": self.updates, "teacher": self.network.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.updates = int(state["updates"])
        self.network.load_state_dict(state["teacher"])
