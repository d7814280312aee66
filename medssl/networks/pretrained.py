"""The encoder contract of pre-training: which part of a network a pre-training makes, and its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from medssl.core.errors import ConfigError
from medssl.networks.split import evaluation_mode


@runtime_checkable
class PretrainedNetwork(Protocol):
    """A split network that also says which part of it a pre-training makes: its encoder and first decoder blocks.

    Attributes:
        kernel_dimensions: 2 where every kernel lies in the plane of X and Y, else 3.
        decoder_depth: Number of decoder blocks.
    """

    kernel_dimensions: int
    decoder_depth: int

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return features of (B, C, X, Y, Z), shallow to deep."""

    def decode_blocks(self, features: list[Tensor], blocks: int) -> Tensor:
        """Return the features (B, F, x, y, z) behind the first `blocks` decoder blocks, the deepest first."""

    def encoder_modules(self) -> list[nn.Module]:
        """Return the modules that `encode` runs."""

    def decoder_modules(self, blocks: int) -> list[nn.Module]:
        """Return the modules that `decode_blocks` runs."""

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]:
        """Return all modules with their names, as `nn.Module` does."""

    def state_dict(self) -> dict[str, Tensor]:
        """Return all tensors by name, as `nn.Module` does."""


def require_pretrained(network: nn.Module) -> PretrainedNetwork:
    """Return the network, or refuse one that does not name its parts.

    Raises:
        ConfigError: If it has no encoder contract.
    """
    if not isinstance(network, PretrainedNetwork):
        message = (
            f"{type(network).__name__}: expected a network with encode, decode_blocks, encoder_modules and "
            "decoder_modules. Use one of medssl, such as SliceUNet or SplitSegResNet."
        )
        raise ConfigError(message)
    return network


def pretrained_tensors(network: PretrainedNetwork, decoder_blocks: int = 0) -> dict[str, Tensor]:
    """Return the tensors of the encoder and the first decoder blocks under the network's own names.

    Raises:
        ConfigError: If the network has fewer decoder blocks.
    """
    check_decoder_blocks(network, decoder_blocks)
    parts = [*network.encoder_modules(), *network.decoder_modules(decoder_blocks)]
    wanted = {id(module) for part in parts for module in part.modules()}
    prefixes = {f"{name}." for name, module in network.named_modules() if id(module) in wanted}
    return {name: tensor for name, tensor in network.state_dict().items() if f"{name.rpartition('.')[0]}." in prefixes}


def check_decoder_blocks(network: PretrainedNetwork, blocks: int) -> None:
    """Refuse a number of decoder blocks that a network does not have.

    Raises:
        ConfigError: If there are fewer.
    """
    if not 0 <= blocks <= network.decoder_depth:
        message = (
            f"decoder_blocks: expected 0 to {network.decoder_depth} for {type(network).__name__}, got {blocks}. "
            "Change decoder_blocks."
        )
        raise ConfigError(message)


def train_only(network: nn.Module, modules: Sequence[nn.Module]) -> None:
    """Freeze a network but for some of its modules."""
    network.requires_grad_(requires_grad=False)
    for module in modules:
        module.requires_grad_(requires_grad=True)


@torch.no_grad()
def feature_shape(network: nn.Module, image_size: Sequence[int], channels: int, *, blocks: int) -> torch.Size:
    """Return channels and size of the features behind some decoder blocks, (F, x, y, z), by one pass in evaluation.

    Raises:
        ConfigError: If the network cannot take images of this size.
    """
    split = require_pretrained(network)
    image = torch.zeros(1, channels, *image_size, device=next(network.parameters()).device)
    try:
        with evaluation_mode(network):
            return split.decode_blocks(split.encode(image), blocks).shape[1:]
    except (RuntimeError, ValueError) as error:
        strides = getattr(network, "strides", None)
        fix = f"multiples of {strides}, twice as long or more" if strides else "another size"
        message = (
            f"patch_size: {type(network).__name__} cannot take {channels} channels of {tuple(image_size)} voxels "
            f"({error}). Take {fix}."
        )
        raise ConfigError(message) from error
