"""Several networks that were trained apart, as one: one image in, the fused logits out."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from medssl.core.errors import ConfigError
from medssl.networks.fusion import Rule, fuse_logits


class EnsembleNet(nn.Module):
    """Fuse networks of equal inputs and classes.

    Args:
        networks: The members; weights are named `networks.NUMBER.NAME`.
        fusion: "mean" of their probabilities, or "majority" of their votes.

    Raises:
        ConfigError: If there are fewer than two.
    """

    def __init__(self, *, networks: Sequence[nn.Module], fusion: Rule = "mean") -> None:
        super().__init__()
        if len(networks) < 2:
            message = f"EnsembleNet: expected at least 2 networks, got {len(networks)}. Use the network itself."
            raise ConfigError(message)
        self.networks = nn.ModuleList(networks)
        self.fusion = fusion

    def forward(self, image: Tensor) -> Tensor:
        """Return the fused logits (B, K, X, Y, Z), float32; see `fuse_logits`."""
        return self.fuse([network(image) for network in self.networks])

    def fuse(self, logits: Sequence[Tensor]) -> Tensor:
        """Return what becomes of the logits of every member, as `forward` does."""
        return fuse_logits(logits, rule=self.fusion)
