"""Several view networks in one: one image in, the fused logits of all views out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from medssl.core.errors import ConfigError
from medssl.core.suggest import did_you_mean
from medssl.networks.fusion import RULES, fuse_logits
from medssl.networks.split import SplitNetwork, check_tail_dropout
from medssl.networks.view_net import ViewNet
from medssl.networks.views import View, parse_views


class MultiViewNet(nn.Module):
    """N networks that share no weights, each looking at the image in its own view.

    Everything that goes in or comes out is in the common frame (B, C, X, Y, Z); the permutations stay inside. Weights
    are named `networks.VIEW.NAME`, whatever the order of the views.

    Args:
        in_channels: Image channels.
        out_channels: Classes, background included.
        network: Makes the network of one view, called with `in_channels` and `out_channels` once for each view; must
            keep the encoder contract (`SplitNetwork`). In a bundle: a component with `"_mode_": "callable"`.
        views: 2, 3 or 6, or a list of names; see `parse_views`.
        norm: Normalisation handed to `network` as well, or None for its own.
        fusion: How the views' logits become one: "mean" of their probabilities, "majority" of their votes (the
            paper's), or the name of one view, which then is alone in answering.

    Raises:
        ConfigError: If the views or their fusion are wrong, or a network breaks the contract.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 2,
        network: Callable[..., nn.Module] = ViewNet,
        views: int | Sequence[str | Sequence[int]] = 3,
        norm: Any = None,
        fusion: str = "mean",
    ) -> None:
        super().__init__()
        self.views = parse_views(views)
        rules = (*RULES, *self.view_names)
        if fusion not in rules:
            message = f"MultiViewNet: expected as fusion one of {', '.join(rules)}, got {fusion!r}."
            raise ConfigError(message + did_you_mean(fusion, rules))
        self.fusion = fusion
        options = {"in_channels": in_channels, "out_channels": out_channels} | ({"norm": norm} if norm else {})
        self.networks = nn.ModuleDict({view.name: _checked(network(**options)) for view in self.views})

    @property
    def view_names(self) -> tuple[str, ...]:
        """Names of the views, in their order."""
        return tuple(view.name for view in self.views)

    def parts(self) -> list[tuple[View, SplitNetwork]]:
        """Return each view with its network."""
        return [(view, self.networks[view.name]) for view in self.views]  # type: ignore[misc]  # checked at the start

    def independent_parts(self) -> list[nn.Module]:
        """Return the networks that share no weights, so that their gradients are clipped apart."""
        return list(self.networks.values())

    def view_logits(self, image: Tensor, view: View) -> Tensor:
        """Return the logits (B, K, X, Y, Z) of one view, in the common frame."""
        return view.from_view(self.networks[view.name](view.to_view(image)))

    def logits_by_view(self, image: Tensor) -> list[Tensor]:
        """Return the logits (B, K, X, Y, Z) of every view, in the common frame."""
        return [self.view_logits(image, view) for view in self.views]

    def forward(self, image: Tensor) -> Tensor:
        """Return the fused logits (B, K, X, Y, Z), float32; see `fuse_logits`."""
        if self.fusion in self.networks:
            return self.view_logits(image, self.views[self.view_names.index(self.fusion)]).float()
        return self.fuse(self.logits_by_view(image))

    def fuse(self, logits: Sequence[Tensor]) -> Tensor:
        """Return what becomes of the logits of every view, as `forward` does."""
        if self.fusion in self.networks:
            return logits[self.view_names.index(self.fusion)].float()
        return fuse_logits(logits, rule="majority" if self.fusion == "majority" else "mean")


def _checked(network: nn.Module) -> nn.Module:
    if not isinstance(network, SplitNetwork):
        message = (
            f"MultiViewNet: {type(network).__name__} is not split into encode, decode and tail. "
            "Use ViewNet or SplitSegResNet, or give your network these methods."
        )
        raise ConfigError(message)
    check_tail_dropout(network)
    return network
