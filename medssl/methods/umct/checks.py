"""What every step of several views asks of its network and crops before it starts."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from medssl.core.errors import ConfigError
from medssl.networks.channel_dropout import channel_dropouts
from medssl.networks.multi_view_net import MultiViewNet
from medssl.networks.split import check_patch_size
from medssl.networks.views import Spacing, check_isotropic


def checked_views(
    network: nn.Module, *, step: str, passes: int, patch_size: Sequence[int] | None, spacing_mm: Spacing
) -> MultiViewNet:
    """Return the network, or refuse what a step of several views cannot train.

    Args:
        network: A `MultiViewNet`, not wrapped.
        step: Name of the step, for the message.
        passes: Stochastic passes, or 0 for none.
        patch_size: Voxels of a crop; None does not check.
        spacing_mm: Voxel size of the crops; see `check_isotropic`.

    Raises:
        ConfigError: If the network is no `MultiViewNet`, crops do not fit its views, or passes would all be alike.
    """
    if not isinstance(network, MultiViewNet):
        message = (
            f"{step}: expected a MultiViewNet, got {type(network).__name__}. "
            "It cannot be wrapped for several processes as a whole, because its views are passed back one by one."
        )
        raise ConfigError(message)
    check_isotropic(spacing_mm)
    for view, part in network.parts():
        if patch_size is not None:
            check_patch_size(part, patch_size, views=network.views)
        dropouts = channel_dropouts(part)
        if passes and not dropouts:
            message = f"{step}: passes need a ChannelDropout in the network of {view.name}, which has none."
            raise ConfigError(message, fix="Add one to its tail, or set passes (stochastic_passes) to 0.")
        if passes and all(dropout.rate == 0.0 for dropout in dropouts):
            message = (
                f"{step}: expected a dropout rate above 0 in the network of {view.name} for {passes} passes, got 0: "
                "they would all be alike, and the views equally sure."
            )
            raise ConfigError(message, fix="Raise dropout_rate, or set passes (stochastic_passes) to 0.")
    return network
