"""Two networks of one architecture in one: one image in, the fused logits out."""

from __future__ import annotations

from torch import Tensor, nn

from medssl.core.errors import ConfigError
from medssl.networks.fusion import fuse_logits
from medssl.networks.parts import independent_parts


class TwinNet(nn.Module):
    """Two networks with different first weights that look at the image in the same way, for cross pseudo supervision.

    Args:
        first: One network, which gives logits (B, K, X, Y, Z).
        second: Another one of the same architecture.

    Raises:
        ConfigError: If both are one network, which would learn from itself.
    """

    def __init__(self, *, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        if first is second:
            message = "TwinNet: expected two networks, got the same one twice. Give each a definition of its own."
            raise ConfigError(message)
        self.first = first
        self.second = second

    def twins(self) -> tuple[nn.Module, nn.Module]:
        """Return the two networks."""
        return self.first, self.second

    def independent_parts(self) -> list[nn.Module]:
        """Return what is clipped and counted apart: the two networks, or the parts that they have themselves."""
        return [part for twin in self.twins() for part in independent_parts(twin)]

    def forward(self, image: Tensor) -> Tensor:
        """Return the logarithm of the mean probability of both, (B, K, X, Y, Z), float32."""
        return fuse_logits([self.first(image), self.second(image)])
