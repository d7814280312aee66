"""Mixup: train on weighted sums of two images, with the same sum of their labels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from medssl.core.errors import ConfigError
from medssl.core.seeding import derive_seed
from medssl.training.distributed import process_rank


class Mixup:
    """Mix each image of a batch with another one; what is drawn depends on (seed, iteration, process) alone.

    Args:
        classes: Number of classes, background included.
        alpha: Both parameters of the beta distribution of the weight; small values mix little.
        seed: Seed of the run.

    Raises:
        ConfigError: If `alpha` is not positive.

    Note:
        Source: Zhang et al., ICLR 2018; for segmentation with mixed one-hot labels, alpha 0.1, Chaitanya et al.,
        NeurIPS 2020.
    """

    def __init__(self, *, classes: int, alpha: float = 0.1, seed: int = 0) -> None:
        if alpha <= 0.0:
            message = f"mixup: expected an alpha above 0, got {alpha}. Take the mixup out instead of setting it to 0."
            raise ConfigError(message)
        self.classes = classes
        self.alpha = alpha
        self.seed = seed

    def __call__(self, images: Tensor, labels: Tensor, *, iteration: int) -> tuple[Tensor, Tensor]:
        """Return mixed images (B, C, X, Y, Z) and distributions over classes (B, K, X, Y, Z) of labels (B, 1, ...)."""
        generator = np.random.default_rng(derive_seed(self.seed, "mixup", iteration, process_rank()))
        weights = torch.from_numpy(generator.beta(self.alpha, self.alpha, size=len(images)))
        weights = weights.to(images)[:, None, None, None, None]
        partners = torch.from_numpy(generator.permutation(len(images))).to(images.device)
        target = one_hot(labels[:, 0].long(), self.classes).movedim(-1, 1).to(images.dtype)
        return torch.lerp(images[partners], images, weights), torch.lerp(target[partners], target, weights)
