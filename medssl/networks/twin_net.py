"""Two networks of one architecture in one: one image in, the fused logits out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from medssl.core.errors import ConfigError
from medssl.networks.fusion import fuse_logits
from medssl.networks.view_net import ViewNet


class TwinNet(nn.Module):
    """Two networks with different first weights that look at the image in the same way, for cross pseudo supervision.

    Args:
        in_channels: Image channels.
        out_channels: Classes, background included.
        network: Makes one network, called twice with `in_channels` and `out_channels`. In a bundle: a component with
            `"_mode_": "callable"`.
        norm: Normalisation handed to `network` as well, or None for its own.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 2,
        network: Callable[..., nn.Module] = ViewNet,
        norm: Any = None,
    ) -> None:
        super().__init__()
        options = {"in_channels": in_channels, "out_channels": out_channels} | ({"norm": norm} if norm else {})
        self.first = network(**options)
        self.second = network(**options)

    def independent_parts(self) -> list[nn.Module]:
        """Return the two networks, whose gradients are clipped apart."""
        return [self.first, self.second]

    def forward(self, image: Tensor) -> Tensor:
        """Return the logarithm of the mean probability of both, (B, K, X, Y, Z), float32."""
        return fuse_logits([self.first(image), self.second(image)])


def twins(*, first: nn.Module, second: nn.Module) -> TwinNet:
    """Join two networks that are there already, such as two of one `network_def`, into a `TwinNet`.

    Raises:
        ConfigError: If both are one network, which would learn from itself.
    """
    if first is second:
        message = "twins: expected two networks, got the same one twice. Give each a definition of its own."
        raise ConfigError(message)
    made = iter((first, second))
    return TwinNet(network=lambda **_: next(made))
