"""Masked autoencoder: fill in blocks that were cut out of unlabelled images; the control of other pre-trainings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from monai.utils.enums import CommonKeys
from torch import Tensor, nn
from torch.nn.functional import normalize

from medssl.core.errors import ConfigError
from medssl.core.seeding import derive_seed
from medssl.networks.pretrained import feature_shape, require_pretrained, train_only
from medssl.training.distributed import process_rank
from medssl.training.health import Embedded
from medssl.training.optimization import Optimization


class Reconstructor(nn.Module):
    """Encode and decode with all blocks of a network, and map the features back to the image.

    Args:
        network: The bundle's network; its encoder and decoder blocks are trained.
        image_size: Voxels of an image along X, Y, Z.
        in_channels: Image channels.
    """

    def __init__(self, *, network: nn.Module, image_size: Sequence[int], in_channels: int = 1) -> None:
        super().__init__()
        self.network = require_pretrained(network)
        blocks = self.network.decoder_depth
        train_only(network, [*self.network.encoder_modules(), *self.network.decoder_modules(blocks)])
        channels = feature_shape(network, image_size, in_channels, blocks=blocks)[0]
        self.head = nn.Conv3d(channels, in_channels, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the image as it is reconstructed, (B, C, X, Y, Z), and the mean deepest features (B, F)."""
        features = self.network.encode(image)
        decoded = self.network.decode_blocks(features, self.network.decoder_depth)
        return self.head(decoded), features[-1].mean((2, 3, 4))


class MaskedAutoencoderStep:
    """Cut blocks out of images and learn to fill them in; the loss is the mean squared error of what was cut out.

    The trainer's network is a `Reconstructor`.

    Args:
        optimization: The run's `Optimization`.
        block: Voxels of a block along X, Y, Z.
        ratio: Share of the blocks that are cut out.
        seed: Seed of the run; the blocks depend on it, the iteration and the process.

    Raises:
        ConfigError: If the ratio is not between 0 and 1.

    Note:
        Source: He et al., CVPR 2022, in the convolutional form (SparK, nnSSL) without sparse convolutions: what is cut
        out is 0.
    """

    def __init__(
        self, *, optimization: Optimization, block: Sequence[int] = (16, 16, 1), ratio: float = 0.6, seed: int = 0
    ) -> None:
        if not 0.0 < ratio < 1.0:
            message = f"masked autoencoder: expected a ratio between 0 and 1, got {ratio}."
            raise ConfigError(message)
        self.optimization = optimization
        self.block = tuple(int(side) for side in block)
        self.ratio = ratio
        self.seed = seed

    def __call__(self, engine: Any, batch: dict[str, Any]) -> dict[str, Any]:
        """Run one iteration of MONAI's `SupervisedTrainer`."""
        images = batch[CommonKeys.IMAGE].to(engine.state.device, non_blocking=engine.non_blocking)
        if images.ndim == 6:  # several views of each crop
            images = images.flatten(0, 1)
        key = derive_seed(self.seed, "masks", engine.state.iteration, process_rank())
        masks = draw_block_masks(images.shape, self.block, self.ratio, torch.Generator().manual_seed(key))
        masks = masks.to(images.device)
        engine.network.train()
        with self.optimization.autocast():
            filled, features = engine.network(images * ~masks)
        loss = masked_error(filled.float(), images, masks)
        sources = torch.arange(len(images), device=images.device)
        output = {
            CommonKeys.IMAGE: images,
            CommonKeys.LOSS: loss.detach(),
            "embedded": Embedded(normalize(features.detach().float(), dim=1), sources),
            "log": {},
        }
        engine.state.output = output
        self.optimization.update(engine, loss, case_ids=batch.get("case_id", ()))
        return output


def draw_block_masks(shape: Sequence[int], block: Sequence[int], ratio: float, generator: torch.Generator) -> Tensor:
    """Draw which voxels of (B, C, X, Y, Z) are cut out, (B, 1, X, Y, Z): a share of the blocks, in each image.

    At least one block is cut out and at least one stays; blocks at the end may be shorter.

    Raises:
        ConfigError: If an image has one block only.
    """
    counts = [-(-extent // side) for extent, side in zip(shape[2:], block, strict=True)]
    number = counts[0] * counts[1] * counts[2]
    if number < 2:
        message = f"masked autoencoder: expected blocks smaller than the image {tuple(shape[2:])}, got {tuple(block)}."
        raise ConfigError(message)
    cut = min(number - 1, max(1, round(ratio * number)))
    order = torch.rand(shape[0], number, generator=generator).argsort(1)
    mask = (order < cut).reshape(shape[0], 1, *counts)
    for axis, side in enumerate(block, start=2):
        mask = mask.repeat_interleave(side, dim=axis)
    return mask[:, :, : shape[2], : shape[3], : shape[4]]


def masked_error(filled: Tensor, images: Tensor, masks: Tensor) -> Tensor:
    """Return the mean squared difference of (B, C, X, Y, Z) over the voxels of `masks` (B, 1, X, Y, Z)."""
    squares = (filled - images).square() * masks
    return squares.sum() / (masks.sum() * images.shape[1]).clamp(min=1)
