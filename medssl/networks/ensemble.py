"""Several networks that were trained apart, as one: one image in, the fused logits out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medssl.core.errors import ConfigError
from medssl.networks.multi_view_net import fuse_logits


class EnsembleNet(nn.Module):
    """Fuse networks of equal inputs and classes by the mean of their probabilities.

    Args:
        networks: The members; weights are named `networks.NUMBER.NAME`.

    Raises:
        ConfigError: If there are fewer than two.
    """

    def __init__(self, *, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        if len(networks) < 2:
            message = f"EnsembleNet: expected at least 2 networks, got {len(networks)}. Use the network itself."
            raise ConfigError(message)
        self.networks = nn.ModuleList(networks)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logarithm of the members' mean probability, (B, K, X, Y, Z), float32."""
        return fuse_logits([network(image) for network in self.networks])
