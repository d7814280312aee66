"""How many patches a training passes forward and back, counted where they pass."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class PatchCount:
    """Count the samples that networks pass forward with a graph, over all of them.

    A sample that three views pass counts three times. Passes without a graph (a teacher, stochastic passes, validation)
    are not counted, nor is what a step asks of `encode` alone.

    Args:
        networks: Networks that share no weights; each is counted at its own forward pass.
    """

    def __init__(self, networks: list[nn.Module]) -> None:
        self._tallies = [_Tally() for _ in networks]
        for network, tally in zip(networks, self._tallies, strict=True):
            network.register_forward_hook(tally)
        self._before: int | None = 0

    @property
    def total(self) -> int | None:
        """The patches so far; None if the run was begun by a version that did not count."""
        return None if self._before is None else self._before + sum(tally.patches for tally in self._tallies)

    def continue_from(self, total: int | None) -> None:
        """Take over the count of the earlier parts of a resumed run."""
        self._before = total
        for tally in self._tallies:
            tally.patches = 0


class _Tally:
    """Hook of one network. It holds no more than its number, so that a copy of the network takes nothing else along."""

    def __init__(self) -> None:
        self.patches = 0

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        first = output[0] if isinstance(output, list | tuple) and output else output
        if isinstance(first, Tensor) and first.requires_grad:
            self.patches += len(first)
