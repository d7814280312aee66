"""The network of one view: a residual encoder that is blind along one axis, and a light decoder that is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from monai.networks.layers.utils import get_norm_layer
from torch import Tensor, nn
from torch.nn.functional import interpolate

from medssl.core.errors import ConfigError
from medssl.networks.channel_dropout import ChannelDropout
from medssl.networks.split import TailOfModules, check_dropout_place, image_too_small


@dataclass(frozen=True)
class _Size:
    """Widths and depths: `decoder` from deep to shallow, one more for each halving that the stem makes."""

    blocks: tuple[int, ...]
    widths: tuple[int, ...]
    decoder: tuple[int, ...]
    is_bottleneck: bool
    halving_stem: bool


_SIZES = {
    "tiny": _Size((1, 2, 2, 2), (16, 32, 64, 128), (32, 32, 16), False, False),
    "resnet18": _Size((2, 2, 2, 2), (64, 128, 256, 512), (64, 64, 64, 32, 16), False, True),
    "resnet50": _Size((3, 4, 6, 3), (64, 128, 256, 512), (64, 64, 64, 32, 16), True, True),
}
_EXPANSION = 4


class ViewNet(TailOfModules, nn.Module):
    """Encode slices with n x n x 1 kernels and decode in 3D, so that each view learns something else.

    The encoder is a residual network whose names and shapes (but for the added third kernel axis) are those of the
    usual 2D ResNet: `conv1`, `bn1`, `layer1.0.conv1`, ... So 2D weights transfer name by name with
    `medssl.networks.weights`. Down-sampling is isotropic: strided in the plane, by pooling across it.

    Args:
        in_channels: Image channels.
        out_channels: Classes, background included.
        size: "tiny" (0.8 million parameters, stride 8, first features at full resolution), "resnet18" (11.6 million)
            or "resnet50" (24.1 million), both with stride 32 and first features at a quarter.
        norm: Normalisation as MONAI writes it; instance normalisation keeps no running statistics.
        dropout_rate: Share of channels dropped.
        dropout_place: "last_block" drops channels before the last 3 x 3 x 3 block, so that block and the output layer
            are the tail; "head" drops them before the final 1 x 1 x 1 convolution, which alone is the tail, and
            K passes then cost next to nothing (docs/results/cotraining_step.md).

    Raises:
        ConfigError: If the size or the place is unknown.

    Note:
        Source: Xia et al., WACV 2020 (UMCT) for asymmetric kernels, ResNet encoder and 3D decoder; Liu et al.,
        MICCAI 2018 (AH-Net) for stem and pooling. The widths of the decoder are not published; these give 11.6 million
        parameters for ResNet-18 where the paper has 11.8, and 24.1 for ResNet-50 where it has 27.1. "tiny" is ours,
        for small structures and small machines. The paper's dropout may stand at both places; `SplitSegResNet` says why
        it stands at one here.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 2,
        size: Literal["tiny", "resnet18", "resnet50"] = "resnet18",
        norm: Any = ("instance", {"affine": True}),
        dropout_rate: float = 0.3,
        dropout_place: Literal["last_block", "head"] = "last_block",
    ) -> None:
        super().__init__()
        check_dropout_place(dropout_place)
        if size not in _SIZES:
            message = f"ViewNet: unknown size {size!r}; the sizes are {', '.join(_SIZES)}."
            raise ConfigError(message)
        shape = _SIZES[size]
        self.dropout_place = dropout_place
        stride = 32 if shape.halving_stem else 8
        self.strides = (stride, stride, stride)
        self.kernel_dimensions = 3
        self.decoder_depth = len(shape.decoder)
        self._add_encoder(shape, in_channels, norm)
        factor = _EXPANSION if shape.is_bottleneck else 1
        self._add_decoder(shape, [width * factor for width in shape.widths], norm)
        last = shape.decoder[-1]
        self.channel_dropout = ChannelDropout(last, rate=dropout_rate)
        self.head = nn.Conv3d(last, out_channels, 1)
        self._initialize()

    def _add_encoder(self, shape: _Size, in_channels: int, norm: Any) -> None:
        first = shape.widths[0]
        if shape.halving_stem:
            self.conv1 = nn.Conv3d(in_channels, first, (7, 7, 3), stride=(2, 2, 1), padding=(3, 3, 1), bias=False)
            self.pool_across: nn.Module = nn.MaxPool3d((1, 1, 2))
            self.pool: nn.Module = nn.MaxPool3d(2)
        else:
            self.conv1 = nn.Conv3d(in_channels, first, 3, padding=1, bias=False)
            self.pool_across, self.pool = nn.Identity(), nn.Identity()
        self.bn1 = _norm(norm, first)
        self.relu = nn.ReLU(inplace=True)
        block = _Bottleneck if shape.is_bottleneck else _BasicBlock
        channels = first
        for level, (width, count) in enumerate(zip(shape.widths, shape.blocks, strict=True)):
            blocks: list[nn.Module] = []
            for index in range(count):
                blocks.append(block(channels, width, stride=2 if level and not index else 1, norm=norm))
                channels = width * block.expansion
            self.add_module(f"layer{level + 1}", nn.Sequential(*blocks))

    def _add_decoder(self, shape: _Size, encoded: list[int], norm: Any) -> None:
        deepest, *skips = encoded[::-1]
        widths = shape.decoder
        self.bottom = nn.Conv3d(deepest, widths[0], 1, bias=False)
        self.laterals = nn.ModuleList(
            nn.Conv3d(skip, width, 1, bias=False) for skip, width in zip(skips, widths, strict=False)
        )
        self.narrowings = nn.ModuleList(
            nn.Conv3d(before, width, 1, bias=False) if before != width else nn.Identity()
            for before, width in zip((widths[0], *widths), widths, strict=False)
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv3d(width, width, 3, padding=1, bias=False), _norm(norm, width), nn.ReLU(inplace=True))
            for width in widths
        )

    def _initialize(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv3d) and module is not self.head:
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the features of the four stages, shallow to deep.

        Raises:
            ConfigError: If the image is so small that the deepest stage would hold one voxel.
        """
        if all(size <= stride for size, stride in zip(image.shape[2:], self.strides, strict=True)):
            raise image_too_small(self, image)
        deep = self.pool(self.relu(self.bn1(self.pool_across(self.conv1(image)))))
        features = []
        for level in range(1, 5):
            deep = self.get_submodule(f"layer{level}")(deep)
            features.append(deep)
        return features

    def encoder_modules(self) -> list[nn.Module]:
        """Return the modules that `encode` runs."""
        return [self.conv1, self.bn1, *(self.get_submodule(f"layer{level}") for level in range(1, 5))]

    def decoder_modules(self, blocks: int) -> list[nn.Module]:
        """Return the modules that `decode_blocks` runs."""
        parts = (self.laterals, self.narrowings, self.blocks)
        return [self.bottom, *(module for part in parts for module in part[:blocks])] if blocks else []

    def decode_blocks(self, features: list[Tensor], blocks: int) -> Tensor:
        """Return (B, F, x, y, z) behind the first `blocks` decoder blocks."""
        if not blocks:
            return features[-1]
        deep = self.bottom(features[-1])
        for level in range(blocks):
            deep = self.blocks[level](self._enlarged(deep, features, level))
        return deep

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return (B, F, X, Y, Z) at full resolution, the input of the tail."""
        deep = self.bottom(features[-1])
        last = len(self.blocks) - 1
        for level, block in enumerate(self.blocks):
            deep = self._enlarged(deep, features, level)
            if level < last or self.dropout_place == "head":
                deep = block(deep)
        return deep

    def _enlarged(self, deep: Tensor, features: list[Tensor], level: int) -> Tensor:
        """Return the input of a decoder block: the deeper map at twice its size, and what the encoder had there."""
        # Narrowed before it is enlarged: the two commute, and this way round costs an eighth
        deep = interpolate(self.narrowings[level](deep), scale_factor=2.0, mode="trilinear", align_corners=False)
        return deep + self.laterals[level](features[-2 - level]) if level < len(self.laterals) else deep

    def tail_modules(self) -> list[nn.Module]:
        """Return the modules of the tail in the order they run."""
        if self.dropout_place == "head":
            return [self.channel_dropout, self.head]
        return [self.channel_dropout, self.blocks[-1], self.head]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, X, Y, Z)."""
        return self.tail(self.decode(self.encode(image)))


class _BasicBlock(nn.Module):
    """Two 3 x 3 x 1 convolutions and a shortcut."""

    expansion = 1

    def __init__(self, channels: int, width: int, *, stride: int, norm: Any) -> None:
        super().__init__()
        self.conv1 = _in_plane(channels, width, 3, stride=stride)
        self.bn1 = _norm(norm, width)
        self.conv2 = _in_plane(width, width, 3)
        self.bn2 = _norm(norm, width)
        self.relu = nn.ReLU(inplace=True)
        self.pool_across = nn.MaxPool3d((1, 1, stride)) if stride > 1 else nn.Identity()
        self.downsample = _shortcut(channels, width, stride, norm)

    def forward(self, features: Tensor) -> Tensor:
        features = self.pool_across(features)
        out = self.relu(self.bn1(self.conv1(features)))
        out = self.bn2(self.conv2(out))
        shortcut = features if self.downsample is None else self.downsample(features)
        return self.relu(out + shortcut)


class _Bottleneck(nn.Module):
    """1 x 1 x 1, 3 x 3 x 1 and 1 x 1 x 1 convolutions, four times wider at the end, and a shortcut."""

    expansion = _EXPANSION

    def __init__(self, channels: int, width: int, *, stride: int, norm: Any) -> None:
        super().__init__()
        wide = width * _EXPANSION
        self.conv1 = _in_plane(channels, width, 1)
        self.bn1 = _norm(norm, width)
        self.conv2 = _in_plane(width, width, 3, stride=stride)
        self.bn2 = _norm(norm, width)
        self.conv3 = _in_plane(width, wide, 1)
        self.bn3 = _norm(norm, wide)
        self.relu = nn.ReLU(inplace=True)
        self.pool_across = nn.MaxPool3d((1, 1, stride)) if stride > 1 else nn.Identity()
        self.downsample = _shortcut(channels, wide, stride, norm)

    def forward(self, features: Tensor) -> Tensor:
        features = self.pool_across(features)
        out = self.relu(self.bn1(self.conv1(features)))
        out = self.relu(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        shortcut = features if self.downsample is None else self.downsample(features)
        return self.relu(out + shortcut)


def _shortcut(channels: int, wide: int, stride: int, norm: Any) -> nn.Module | None:
    if channels == wide and stride == 1:
        return None
    return nn.Sequential(_in_plane(channels, wide, 1, stride=stride), _norm(norm, wide))


def _in_plane(channels: int, width: int, extent: int, *, stride: int = 1) -> nn.Conv3d:
    around = extent // 2
    return nn.Conv3d(
        channels, width, (extent, extent, 1), stride=(stride, stride, 1), padding=(around, around, 0), bias=False
    )


def _norm(norm: Any, channels: int) -> nn.Module:
    kind: str | Sequence[Any] = norm if isinstance(norm, str) else (norm[0], dict(norm[1]))
    return get_norm_layer(name=kind, spatial_dims=3, channels=channels)
