"""Parts of a network that share no weights, so that they are clipped and counted apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import nn


@runtime_checkable
class _HasParts(Protocol):
    def independent_parts(self) -> Sequence[nn.Module]: ...


def independent_parts(network: nn.Module) -> list[nn.Module]:
    """Return what a network names as its independent parts, or else the network itself."""
    return list(network.independent_parts()) if isinstance(network, _HasParts) else [network]
