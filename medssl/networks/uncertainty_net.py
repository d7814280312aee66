"""A network beside whose logits come two maps of how uncertain they are."""

from __future__ import annotations

import math
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from medssl.core.errors import ConfigError
from medssl.networks.channel_dropout import channel_dropouts, draw_masks
from medssl.networks.ensemble import EnsembleNet
from medssl.networks.multi_view_net import MultiViewNet
from medssl.networks.split import SplitNetwork
from medssl.networks.stochastic_passes import tail_moments
from medssl.networks.views import VIEWS, View

MAPS = ("disagreement", "variance")
"""What the two channels behind the logits are; see `UncertaintyNet`."""

_CHUNK = 5
_WHOLE = VIEWS["axial"]  # the identity


class UncertaintyNet(nn.Module):
    """Run a network of several members and put out its logits and two maps.

    "disagreement" is the part of the members' uncertainty that comes from their differing: the entropy of their mean
    probability minus the mean of their entropies (Jensen-Shannon divergence), divided by its largest value, so from 0
    to 1; 0 where there is one member. "variance" is the predictive variance under dropout of channels, meaned over
    classes and members; 0 where nothing drops. Masks are the same for every image, so the maps are repeatable.

    Args:
        network: A `MultiViewNet` (members are its views), an `EnsembleNet`, or a `SplitNetwork` with dropout.
        passes: Stochastic passes of each member.
        seed: Seed of the masks.

    Raises:
        ConfigError: If the network has neither several members nor dropout.
    """

    def __init__(self, network: nn.Module, *, passes: int = 10, seed: int = 0) -> None:
        super().__init__()
        self.network = network
        self.passes = passes
        self.seed = seed
        if len(self.members()) < 2 and not channel_dropouts(network):
            message = (
                f"uncertainty: expected a network of several views or members, or with dropout of channels; "
                f"{type(network).__name__} has neither. Leave --uncertainty out, or use a co-trained bundle."
            )
            raise ConfigError(message)

    def members(self) -> list[tuple[View, nn.Module]]:
        """Return each member with the view in which it sees the image."""
        if isinstance(self.network, MultiViewNet):
            return [(view, self.network.networks[view.name]) for view in self.network.views]
        if isinstance(self.network, EnsembleNet):
            return [(_WHOLE, member) for member in self.network.networks]
        return [(_WHOLE, self.network)]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits and maps (B, K + 2, X, Y, Z), float32."""
        generator = torch.Generator().manual_seed(self.seed)
        logits, variances = [], []
        for view, member in self.members():
            own, variance = self._member(view.to_view(image), member, generator)
            logits.append(view.from_view(own).float())
            variances.append(view.from_view(variance))
        maps = [disagreement(torch.stack(logits).softmax(2)), torch.stack(variances).mean(0)]
        return torch.cat([self._fused(logits), *maps], dim=1)

    def _fused(self, logits: list[Tensor]) -> Tensor:
        if isinstance(self.network, MultiViewNet | EnsembleNet):
            return self.network.fuse(logits)
        return logits[0]

    def _member(self, image: Tensor, member: nn.Module, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return logits (B, K, ...) and variance (B, 1, ...) in the frame of the member."""
        if not (isinstance(member, SplitNetwork) and channel_dropouts(member)):
            logits = member(image)
            return logits, torch.zeros_like(logits[:, :1], dtype=torch.float32)
        features = member.decode(member.encode(image))
        masks = draw_masks(member, self.passes, generator=generator)
        # every image of a batch under the same masks, so that its maps do not depend on its neighbours
        repeated = [mask.repeat_interleave(len(image), dim=0) for mask in masks]
        moments = tail_moments(member, features, repeated, chunk=_CHUNK, autocast=nullcontext)
        return member.tail(features), moments.variance.mean(1, keepdim=True)


def disagreement(probabilities: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of N distributions (N, B, K, X, Y, Z) as (B, 1, X, Y, Z), from 0 to 1.

    Divided by log(min(N, K)), which is reached when as many members as possible are certain of different classes.

    Note:
        Source: Lin 1991, equation 5.1, with equal weights.
    """
    largest = math.log(max(2, min(probabilities.shape[0], probabilities.shape[2])))
    mean_entropy = _entropy(probabilities, dim=2).mean(0)
    return ((_entropy(probabilities.mean(0), dim=1) - mean_entropy) / largest).clamp_min(0.0).unsqueeze(1)


def _entropy(probabilities: Tensor, *, dim: int) -> Tensor:
    return torch.special.entr(probabilities).sum(dim)
