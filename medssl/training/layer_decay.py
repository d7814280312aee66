"""Smaller learning rates for the early layers of an encoder, which pre-training has brought furthest."""

from __future__ import annotations

from typing import Any, Protocol, cast

from torch import nn

from medssl.core.errors import ConfigError
from medssl.training.distributed import undistributed


class _Staged(Protocol):
    """An encoder of a stem and stages of blocks, such as that of `CSwinUNet`; `down[i]` leads to `stages[i + 1]`."""

    stem: nn.ModuleList
    stages: nn.ModuleList
    norms: nn.ModuleList
    down: nn.ModuleList


def layer_decay_groups(
    network: nn.Module, *, learning_rate: float, decay: float, enabled: bool = True
) -> list[dict[str, Any]]:
    """Return parameter groups for an optimiser whose rates fall from the last block of the encoder to its stem.

    What is behind the encoder has the whole rate, the last block of the last stage `decay` of it, the block before that
    `decay` squared, and so on; the stem comes last. A step between stages belongs to the block behind it, the
    normalisation of a stage to its last block. `Schedule` keeps the ratios.

    Args:
        network: Network of a stem and stages.
        learning_rate: Rate of what is behind the encoder; the first group, which the log shows.
        decay: Ratio from one block to the one before it, above 0 and at most 1. With 1 there is one group.
        enabled: False is a decay of 1: a network that starts from random weights has no layers to spare.

    Raises:
        ConfigError: If the decay is out of range, or the network has no stages.

    Note:
        Source: Clark et al., ICLR 2020 (ELECTRA), in the form that vision transformers use (Bao et al., BEiT, 2022).
    """
    if not 0 < decay <= 1:
        message = f"layer_decay: expected a ratio above 0, up to 1, got {decay}."
        raise ConfigError(message)
    if not enabled or decay == 1:
        return [{"params": list(network.parameters()), "lr": learning_rate}]
    inner = undistributed(network)
    parameters = list(inner.parameters())
    # isinstance of a protocol does not see the submodules of a module from Python 3.12 on
    if not all(hasattr(inner, name) for name in _Staged.__annotations__):
        message = (
            f"layer_decay: expected a network whose encoder has a stem and stages, as CSwinUNet, got "
            f"{type(inner).__name__}. Set layer_decay to 1."
        )
        raise ConfigError(message)
    layers = _layers(cast("_Staged", inner))
    encoder = {id(parameter) for layer in layers for parameter in layer}
    groups = [{"params": [each for each in parameters if id(each) not in encoder], "lr": learning_rate}]
    for distance, layer in enumerate(reversed(layers), start=1):
        groups.append({"params": layer, "lr": learning_rate * decay**distance})
    return groups


def _layers(network: _Staged) -> list[list[nn.Parameter]]:
    """Return the parameters of each layer of the encoder, the stem first."""
    layers = [list(network.stem.parameters())]
    for level, stage in enumerate(network.stages):
        blocks = [list(block.parameters()) for block in stage.children()]
        if level:
            blocks[0] = [*network.down[level - 1].parameters(), *blocks[0]]
        blocks[-1] += network.norms[level].parameters()
        layers += blocks
    return layers
