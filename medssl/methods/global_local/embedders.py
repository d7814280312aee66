"""What stands on a network while it is pre-trained and is thrown away afterwards: projections to embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from medssl.core.errors import ConfigError
from medssl.losses.region_masks import Regions, region_windows
from medssl.networks.pretrained import check_decoder_blocks, feature_shape, require_pretrained, train_only


class GlobalEmbedder(nn.Module):
    """Encode whole images and project the deepest features to one embedding each; trains the encoder and the head.

    All other parameters of the network are frozen.

    Args:
        network: The bundle's network; changed in place by the training.
        image_size: Voxels of an image along X, Y, Z.
        in_channels: Image channels.
        pool: "flatten" keeps where features lie, as published; "avg" takes their mean, for 3D patches.
        widths: Outputs of the two linear layers.

    Note:
        Source: Chaitanya et al., NeurIPS 2020: flatten, 3200 (paper) or 1024 (code), ReLU, 128, without biases.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        image_size: Sequence[int],
        in_channels: int = 1,
        pool: Literal["flatten", "avg"] = "flatten",
        widths: Sequence[int] = (1024, 128),
    ) -> None:
        super().__init__()
        self.network = require_pretrained(network)
        train_only(network, self.network.encoder_modules())
        deep = feature_shape(network, image_size, in_channels, blocks=0)
        self.pool: nn.Module = nn.AdaptiveAvgPool3d(1) if pool == "avg" else nn.Identity()
        inputs = deep[0] if pool == "avg" else deep.numel()
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(inputs, widths[0], bias=False),
            nn.ReLU(),
            nn.Linear(widths[0], widths[1], bias=False),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Return embeddings (B, d) of (B, C, X, Y, Z), not yet of length 1."""
        return self.head(self.pool(self.network.encode(image)[-1]))


def decoded_size(
    *, network: nn.Module, image_size: Sequence[int], decoder_blocks: int, in_channels: int = 1
) -> list[int]:
    """Return the voxels along X, Y, Z of the map that some decoder blocks make of an image.

    Args:
        network: The bundle's network.
        image_size: Voxels of the image along X, Y, Z.
        decoder_blocks: Blocks that run, the deepest first.
        in_channels: Image channels.
    """
    check_decoder_blocks(require_pretrained(network), decoder_blocks)
    return list(feature_shape(network, image_size, in_channels, blocks=decoder_blocks)[1:])


class LocalEmbedder(nn.Module):
    """Encode with a frozen encoder, decode a few blocks and project regions of the map; trains blocks and head.

    The encoder runs without graph and in evaluation mode, so that neither its parameters nor its running statistics
    change.

    Args:
        network: The bundle's network, whose encoder is already trained.
        regions: Windows of the map, from `medssl.losses.region_masks`.
        decoder_blocks: Blocks that are trained.
        in_channels: Image channels.
        image_size: Voxels of an image along X, Y, Z.
        width: Width of an embedding.
        frozen_norm: "eval" as above; "train" lets the encoder's batch normalisation use the statistics of the batch
            (and move its running ones), as published.

    Raises:
        ConfigError: If the regions were made for a map of another size.

    Note:
        Source: Chaitanya et al., NeurIPS 2020: two 1 x 1 convolutions, then one linear map for all windows.
    """

    def __init__(
        self,
        *,
        network: nn.Module,
        regions: Regions,
        image_size: Sequence[int],
        decoder_blocks: int = 3,
        in_channels: int = 1,
        width: int = 128,
        frozen_norm: Literal["eval", "train"] = "eval",
    ) -> None:
        super().__init__()
        self.network = require_pretrained(network)
        check_decoder_blocks(self.network, decoder_blocks)
        train_only(network, self.network.decoder_modules(decoder_blocks))
        self.regions = regions
        self.decoder_blocks = decoder_blocks
        self.frozen_norm = frozen_norm
        channels, *map_size = feature_shape(network, image_size, in_channels, blocks=decoder_blocks)
        if regions.map_size != tuple(map_size):
            message = (
                f"regions: expected windows of a map of {tuple(map_size)}, which {decoder_blocks} decoder blocks make "
                f"of {tuple(image_size)}, got those of one of {regions.map_size}. Set map_size to {list(map_size)}."
            )
            raise ConfigError(message)
        self.head = nn.Sequential(
            nn.Conv3d(channels, channels, 1, bias=False),
            nn.InstanceNorm3d(channels, affine=True),
            nn.ReLU(),
            nn.Conv3d(channels, channels, 1),
        )
        window = regions.size[0] * regions.size[1] * regions.size[2]
        self.projection = nn.Linear(channels * window, width, bias=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return embeddings (B, A, d) of the regions of (B, C, X, Y, Z), not yet of length 1."""
        with torch.no_grad():
            features = self.network.encode(image)
        decoded = self.network.decode_blocks(features, self.decoder_blocks)
        return self.projection(region_windows(self.head(decoded), self.regions))

    def train(self, mode: bool = True) -> LocalEmbedder:
        """Set the mode of blocks and head; the encoder stays in evaluation mode unless `frozen_norm` is "train"."""
        super().train(mode)
        if self.frozen_norm == "eval":
            for module in self.network.encoder_modules():
                module.eval()
        return self
