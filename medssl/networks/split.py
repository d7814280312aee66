"""The encoder contract: networks in three parts, with dropout in the last one only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, Protocol, runtime_checkable

from monai.networks.nets import SegResNet
from torch import Tensor, nn

from medssl.core.errors import ConfigError
from medssl.networks.channel_dropout import ChannelDropout
from medssl.networks.views import VIEWS, View

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, nn.Conv3d, nn.ConvTranspose3d)


@runtime_checkable
class SplitNetwork(Protocol):
    """A network with `forward(x) = tail(decode(encode(x)))` and dropout in `tail` only.

    Then what stands before the tail is computed once for any number of stochastic passes, and any pre-training that
    ends at `encode` or `decode` feeds any training.

    Attributes:
        strides: Largest down-sampling along each axis; every axis of an image is a multiple of it.
    """

    strides: tuple[int, int, int]

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return features of (B, C, X, Y, Z), shallow to deep."""

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return what the tail needs, (B, F, X, Y, Z)."""

    def tail(self, features: Tensor) -> Tensor:
        """Return logits (B, K, X, Y, Z)."""

    def tail_modules(self) -> list[nn.Module]:
        """Return the modules that `tail` runs, in this order."""

    def modules(self) -> Iterator[nn.Module]:
        """Return all modules, as `nn.Module` does."""


class TailOfModules:
    """The `tail` of a network whose `tail_modules` run one after another."""

    def tail_modules(self) -> list[nn.Module]:
        """Return the modules of the tail in the order they run."""
        raise NotImplementedError

    def tail(self, features: Tensor) -> Tensor:
        """Return logits (B, K, X, Y, Z)."""
        for module in self.tail_modules():
            features = module(features)
        return features


class SplitSegResNet(TailOfModules, SegResNet):
    """MONAI's SegResNet in three parts; weights have the names of the stock network and fit it both ways.

    Args:
        in_channels: Image channels.
        out_channels: Classes, background included.
        init_filters: Channels at full resolution.
        blocks_down: Residual blocks of each level of the encoder; each level halves the grid.
        blocks_up: Residual blocks of each level of the decoder.
        norm: Normalisation as MONAI writes it.
        dropout_rate: Share of channels dropped.
        dropout_place: "last_block" drops channels before the last decoder block, so that block and the output layers
            are the tail; "head" drops them before the final 1 x 1 x 1 convolution, which alone is the tail, and
            K passes then cost next to nothing (docs/results/cotraining_step.md).

    Note:
        Dropout stands at one of the two places, never at both: the tail would then always be the longer one.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 2,
        init_filters: int = 16,
        blocks_down: Sequence[int] = (1, 2, 2, 4),
        blocks_up: Sequence[int] = (1, 1, 1),
        norm: Any = ("instance", {"affine": True}),
        dropout_rate: float = 0.3,
        dropout_place: Literal["last_block", "head"] = "last_block",
    ) -> None:
        super().__init__(
            spatial_dims=3,
            init_filters=init_filters,
            in_channels=in_channels,
            out_channels=out_channels,
            norm=norm if isinstance(norm, str) else (norm[0], dict(norm[1])),
            blocks_down=tuple(blocks_down),
            blocks_up=tuple(blocks_up),
        )
        check_dropout_place(dropout_place)
        stride = 2 ** (len(blocks_down) - 1)
        self.strides = (stride, stride, stride)
        self.kernel_dimensions = 3
        self.decoder_depth = len(self.up_layers)
        self.dropout_place = dropout_place
        self.channel_dropout = ChannelDropout(init_filters, rate=dropout_rate)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the features of every level, shallow to deep."""
        features = [self.convInit(image)]
        for down in self.down_layers:
            features.append(down(features[-1]))
        return features[1:]

    def encoder_modules(self) -> list[nn.Module]:
        """Return the modules that `encode` runs."""
        return [self.convInit, self.down_layers]

    def decoder_modules(self, blocks: int) -> list[nn.Module]:
        """Return the modules that `decode_blocks` runs."""
        return [*self.up_samples[:blocks], *self.up_layers[:blocks]]

    def decode_blocks(self, features: list[Tensor], blocks: int) -> Tensor:
        """Return (B, F, x, y, z) behind the first `blocks` decoder blocks."""
        deep = features[-1]
        for level in range(blocks):
            deep = self.up_layers[level](self.up_samples[level](deep) + features[-2 - level])
        return deep

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return (B, F, X, Y, Z) at full resolution, the input of the tail."""
        deep = features[-1]
        last = len(self.up_layers) - 1
        for level, (up, block) in enumerate(zip(self.up_samples, self.up_layers, strict=True)):
            deep = up(deep) + features[-2 - level]
            if level < last or self.dropout_place == "head":
                deep = block(deep)
        return deep if self.dropout_place == "last_block" else self.conv_final[:2](deep)

    def tail_modules(self) -> list[nn.Module]:
        """Return the modules of the tail in the order they run."""
        if self.dropout_place == "head":
            return [self.channel_dropout, self.conv_final[2]]
        return [self.channel_dropout, self.up_layers[-1], self.conv_final]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, X, Y, Z)."""
        return self.tail(self.decode(self.encode(image)))


def check_dropout_place(place: str) -> None:
    """Refuse a place of dropout that would leave the tail.

    Raises:
        ConfigError: If the place is unknown.
    """
    if place not in {"last_block", "head"}:
        message = f'dropout_place: expected "last_block" or "head", got {place!r}.'
        raise ConfigError(message)


def image_too_small(network: SplitNetwork, image: Tensor) -> ConfigError:
    """Return the error for an image (B, C, X, Y, Z) of which a level of the network would hold one voxel."""
    name, size = type(network).__name__, list(image.shape[2:])
    return ConfigError(
        f"{name}: an image of {size} voxels is too small for strides {network.strides}. Make patch_size larger."
    )


def check_tail_dropout(network: SplitNetwork) -> None:
    """Refuse a network with active dropout outside its tail or behind its output convolution.

    Dropout before the tail would make its features differ from pass to pass; behind the output convolution it zeroes
    logits, and a variance over passes would measure nothing else.

    Raises:
        ConfigError: If there is such a dropout.
    """
    order = [module for part in network.tail_modules() for module in part.modules()]
    outside = [module for module in network.modules() if _is_active(module) and all(module is not it for it in order)]
    if outside:
        message = (
            f"network: {len(outside)} dropout layers of {type(network).__name__} lie outside its tail, "
            f"first {outside[0]}. Set their rate to 0, or move them into the tail."
        )
        raise ConfigError(message)
    last_convolution = max((i for i, module in enumerate(order) if isinstance(module, _CONVOLUTIONS)), default=-1)
    if any(_is_active(module) for module in order[last_convolution + 1 :]):
        message = (
            f"network: {type(network).__name__} drops logits behind its output convolution. Drop features instead."
        )
        raise ConfigError(message)


def check_patch_size(
    network: SplitNetwork, patch_size: Sequence[int], *, views: Sequence[View] = (VIEWS["axial"],)
) -> None:
    """Refuse a patch that a network cannot halve often enough in one of its views.

    Args:
        network: Network with its strides.
        patch_size: Voxels along X, Y, Z of the common frame.
        views: Views in which it sees the patch; each axis then meets other strides.

    Raises:
        ConfigError: If an axis is no multiple of a stride; the message lists all of them.
    """
    wrong = []
    for axis, (name, size) in enumerate(zip("XYZ", patch_size, strict=True)):
        stride = max(network.strides[view.inverse[axis]] for view in views)
        if size < stride or size % stride:
            wrong.append(f"{name} = {size} is no multiple of {stride}")
    if wrong:
        message = f"patch {list(patch_size)}: {'; '.join(wrong)}. Change patch_size to multiples."
        raise ConfigError(message)


def patch_strides(network: nn.Module) -> tuple[int, int, int] | None:
    """Return what the sides of a patch are multiples of, along X, Y, Z, or None if a network does not tell it.

    Of a network of several parts, which may see the patch along other axes, it is the largest of all, for every axis.
    """
    if isinstance(network, SplitNetwork):
        return network.strides
    largest = max((max(module.strides) for module in network.modules() if isinstance(module, SplitNetwork)), default=0)
    return (largest, largest, largest) if largest else None


def sees_slices(network: nn.Module) -> bool:
    """Tell whether a network sees single slices, because all of its kernels lie in the plane of X and Y."""
    return getattr(network, "kernel_dimensions", 3) == 2


@contextmanager
def evaluation_mode(network: nn.Module) -> Iterator[None]:
    """Put a network in evaluation mode and give every module its own mode back, also after an error."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        # One by one: network.train() would wake layers that were frozen on purpose
        for module, training in modes:
            module.training = training


def _is_active(module: nn.Module) -> bool:
    rate = module.rate if isinstance(module, ChannelDropout) else getattr(module, "p", 0.0)
    return isinstance(module, (*_DROPOUTS, ChannelDropout)) and rate > 0.0
