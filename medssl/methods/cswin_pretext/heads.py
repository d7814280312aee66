"""What stands on a network while it is pre-trained by three tasks, and is thrown away afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from medssl.core.errors import ConfigError
from medssl.networks.pretrained import check_decoder_blocks, feature_shape, require_pretrained, train_only
from medssl.networks.split import evaluation_mode

Decoder = Literal["light", "unet"]

_QUARTERS = 4
_LIGHT_WIDTHS = (128, 64, 32, 16, 16)


class Answers(NamedTuple):
    """What the heads say of patches (N, C, X, Y, Z); None for tasks that are off.

    Attributes:
        pooled: Means of the deepest features, (N, F), without graph; what the monitors look at.
        turns: Logits (N, 4) of the quarter turns.
        embeddings: (N, d), not yet of length 1.
        images: The clean patches, (N, C, X, Y, Z).
    """

    pooled: Tensor
    turns: Tensor | None
    embeddings: Tensor | None
    images: Tensor | None


class PretextNet(nn.Module):
    """One encoder pass, and on it heads for rotation, contrast and inpainting; parts that no task trains are frozen.

    Rotation and contrast stand on the mean of the deepest features; the position of a token tells nothing of a patch.

    Args:
        network: The bundle's network; changed in place by the training.
        image_size: Voxels of a patch along X, Y, Z.
        in_channels: Image channels.
        rotation: Train the rotation task.
        contrast: Train the contrast task.
        inpainting: Train the inpainting task.
        decoder: "unet" restores the image through the network's own decoder blocks, which are then pre-trained too, and
            enlarges their last map; "light" through a small decoder of its own without skips.
        decoder_blocks: Blocks of the network's decoder that "unet" trains.
        width: Width of an embedding.

    Raises:
        ConfigError: If no task is on, the network has no encoder or fewer blocks, or the light decoder would see one
            voxel.

    Note:
        Source: Tang et al., CVPR 2022 for the three heads; the mean instead of tokens, two layers for contrast and the
        network's own decoder are ours.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        image_size: Sequence[int],
        in_channels: int = 3,
        rotation: bool = True,
        contrast: bool = True,
        inpainting: bool = True,
        decoder: Decoder = "unet",
        decoder_blocks: int = 0,
        width: int = 128,
    ) -> None:
        super().__init__()
        if not (rotation or contrast or inpainting):
            message = "PretextNet: expected at least one task that is on, got none."
            raise ConfigError(message)
        if len(image_size) != 3 or min(image_size) < 1:
            message = f"PretextNet: expected patches of three sides above 0, got {list(image_size)}. Change patch_size."
            raise ConfigError(message)
        self.network = require_pretrained(network)
        check_decoder_blocks(self.network, decoder_blocks)
        if inpainting and decoder == "unet" and not decoder_blocks:
            message = 'PretextNet: decoder "unet" needs decoder_blocks of 1 or more; or choose decoder "light".'
            raise ConfigError(message)
        self.blocks = decoder_blocks if inpainting and decoder == "unet" else 0
        train_only(network, [*self.network.encoder_modules(), *self.network.decoder_modules(self.blocks)])
        shape = feature_shape(network, image_size, in_channels, blocks=0)
        deepest, restored = shape[0], feature_shape(network, image_size, in_channels, blocks=self.blocks)[0]
        if inpainting and not self.blocks and shape[1:].numel() == 1:
            message = (
                f"PretextNet: patches of {tuple(image_size)} voxels end in one voxel, which the light decoder cannot "
                'normalise. Take a larger patch_size, or decoder "unet".'
            )
            raise ConfigError(message)
        self.turns = nn.Linear(deepest, _QUARTERS) if rotation else None
        self.projection = (
            nn.Sequential(nn.Linear(deepest, width), nn.ReLU(), nn.Linear(width, width)) if contrast else None
        )
        head = _Enlarge if self.blocks else _LightDecoder
        self.image = head(restored, in_channels) if inpainting else None
        self._freeze_unreached(torch.zeros(1, in_channels, *image_size))

    def forward(self, patches: Tensor) -> Answers:
        """Return the answers of (N, C, X, Y, Z)."""
        features = self.network.encode(patches)
        pooled = features[-1].mean((2, 3, 4))
        images = None
        if self.image is not None:
            deep = self.network.decode_blocks(features, self.blocks)
            images = self.image(deep, [tuple(each.shape[2:]) for each in features[-2::-1]])
        return Answers(
            pooled=pooled.detach(),
            turns=None if self.turns is None else self.turns(pooled),
            embeddings=None if self.projection is None else self.projection(pooled),
            images=images,
        )

    def _freeze_unreached(self, patch: Tensor) -> None:
        """Freeze what no task reaches, such as norms of skips that are not read: it has no gradient to share."""
        parameters = [each for each in self.parameters() if each.requires_grad]
        with evaluation_mode(self):
            total = torch.stack([answer.sum() for answer in self(patch) if answer is not None]).sum()
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(total, parameters, allow_unused=True), strict=True
        ):
            parameter.requires_grad_(gradient is not None)


class _Enlarge(nn.Module):
    """The last map of the network's decoder blocks, enlarged to the patch, then a 1 x 1 x 1 convolution."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.head = nn.Conv3d(in_channels, out_channels, 1)

    def forward(self, features: Tensor, sizes: list[tuple[int, ...]]) -> Tensor:
        return self.head(interpolate(features, size=sizes[-1], mode="trilinear", align_corners=False))


class _LightDecoder(nn.Module):
    """Convolution, norm, activation and enlargement to the size of the next level, level by level, without skips."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        before = (in_channels, *_LIGHT_WIDTHS)
        self.convolutions = nn.ModuleList(
            nn.Sequential(nn.Conv3d(old, new, 3, padding=1), nn.InstanceNorm3d(new), nn.LeakyReLU(0.01))
            for old, new in zip(before, _LIGHT_WIDTHS, strict=False)
        )
        self.head = nn.Conv3d(_LIGHT_WIDTHS[-1], out_channels, 1)

    def forward(self, features: Tensor, sizes: list[tuple[int, ...]]) -> Tensor:
        for convolution, size in zip(self.convolutions, sizes, strict=False):
            features = interpolate(convolution(features), size=size, mode="trilinear", align_corners=False)
        return self.head(interpolate(features, size=sizes[-1], mode="trilinear", align_corners=False))
