"""The encoder of 2D slices: MONAI's ResNet in the three parts of the encoder contract, with a class for each image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from monai.networks.nets import ResNet
from torch import Tensor, nn

from medssl.core.errors import ConfigError
from medssl.networks.split import TailOfModules


@dataclass(frozen=True)
class _Size:
    block: Literal["basic", "bottleneck"]
    blocks: tuple[int, int, int, int]
    widths: tuple[int, int, int, int]
    stem: int  # side of the first kernel; 7 also halves the image twice


_SIZES = {
    "tiny": _Size("basic", (1, 2, 2, 2), (16, 32, 64, 128), 3),
    "resnet18": _Size("basic", (2, 2, 2, 2), (64, 128, 256, 512), 7),
    "resnet50": _Size("bottleneck", (3, 4, 6, 3), (64, 128, 256, 512), 7),
}


class SliceNet(TailOfModules, ResNet):
    """Classify images (B, C, X, Y); names and shapes of the weights are those of MONAI's and the usual 2D ResNets.

    Its encoder feeds the encoder of `ViewNet` of the same size (`medssl.networks.weights` inflates its kernels), and
    the method embedding of `medssl reduce`.

    Args:
        in_channels: Image channels; the first kernels of colour networks are summed over the colours when loaded.
        out_channels: Classes.
        size: "tiny" (0.7 million parameters, stride 8, for small images and machines), "resnet18" (11.2 million) or
            "resnet50" (23.5 million), both with stride 32.
        dropout_rate: Share of pooled features dropped before the class scores.

    Raises:
        ConfigError: If the size is unknown.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        out_channels: int = 2,
        size: Literal["tiny", "resnet18", "resnet50"] = "resnet50",
        dropout_rate: float = 0.0,
    ) -> None:
        if size not in _SIZES:
            message = f"SliceNet: unknown size {size!r}; the sizes are {', '.join(_SIZES)}."
            raise ConfigError(message)
        shape = _SIZES[size]
        halves = shape.stem == 7
        super().__init__(
            block=shape.block,
            layers=list(shape.blocks),
            block_inplanes=list(shape.widths),
            spatial_dims=2,
            n_input_channels=in_channels,
            conv1_t_size=shape.stem,
            conv1_t_stride=2 if halves else 1,
            no_max_pool=not halves,
            num_classes=out_channels,
            bias_downsample=False,
        )
        stride = 32 if halves else 8
        self.strides = (stride, stride)
        self.kernel_dimensions = 2
        self.decoder_depth = 0
        self.features = self.fc.in_features
        self.dropout = nn.Dropout(dropout_rate)

    def encode(self, image: Tensor) -> list[Tensor]:
        """Return the features (B, F, x, y) of the four stages, shallow to deep."""
        deep = self.act(self.bn1(self.conv1(image)))
        if not self.no_max_pool:
            deep = self.maxpool(deep)
        features = []
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            deep = layer(deep)
            features.append(deep)
        return features

    def encoder_modules(self) -> list[nn.Module]:
        """Return the modules that `encode` runs."""
        return [self.conv1, self.bn1, self.layer1, self.layer2, self.layer3, self.layer4]

    def decoder_modules(self, blocks: int) -> list[nn.Module]:
        """Return nothing: there is no decoder."""
        return []

    def decode_blocks(self, features: list[Tensor], blocks: int) -> Tensor:
        """Return the deepest features."""
        return features[-1]

    def decode(self, features: list[Tensor]) -> Tensor:
        """Return the deepest features averaged over the image, (B, F)."""
        return self.avgpool(features[-1]).flatten(1)

    def tail_modules(self) -> list[nn.Module]:
        """Return the modules of the tail in the order they run."""
        return [self.dropout, self.fc]

    def forward(self, image: Tensor) -> Tensor:
        """Return class scores (B, K), before any softmax."""
        return self.tail(self.decode(self.encode(image)))
