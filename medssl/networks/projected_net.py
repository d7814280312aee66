"""A slice encoder with a projection head and, for SwAV, prototypes: what contrastive pre-training trains."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from medssl.core.errors import ConfigError
from medssl.networks.slice_net import SliceNet


class Projected(NamedTuple):
    """Embeddings and, with prototypes, scores of every crop.

    Attributes:
        embeddings: For each crop (B, d), each row of length 1, float32.
        scores: For each crop the cosines with the prototypes (B, K); empty without prototypes.
    """

    embeddings: tuple[Tensor, ...]
    scores: tuple[Tensor, ...]


class ProjectedNet(nn.Module):
    """Embed several crops of each image.

    Crops of one size go through the encoder together, and all crops through the head together, as published.

    Args:
        encoder: Its `encode` and `decode` are run, its tail is not.
        hidden: Width of the head's hidden layer.
        dimensions: Length of an embedding.
        prototypes: Number of prototypes; 0 for MoCo.
        batch_norm: Batch normalisation in the head: SwAV has it, MoCo v2 has not.

    Raises:
        ConfigError: If a number is out of range.
    """

    def __init__(
        self,
        *,
        encoder: SliceNet,
        hidden: int = 2048,
        dimensions: int = 128,
        prototypes: int = 0,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        if hidden < 1 or dimensions < 2 or prototypes < 0:
            message = (
                f"ProjectedNet: expected hidden above 0, dimensions above 1 and prototypes of 0 or more, got {hidden}, "
                f"{dimensions} and {prototypes}."
            )
            raise ConfigError(message)
        self.encoder = encoder
        norm = [nn.BatchNorm1d(hidden)] if batch_norm else []
        self.head = nn.Sequential(
            nn.Linear(encoder.features, hidden), *norm, nn.ReLU(inplace=True), nn.Linear(hidden, dimensions)
        )
        self.prototypes = nn.Linear(dimensions, prototypes, bias=False) if prototypes else None

    @torch.no_grad()
    def normalize_prototypes(self) -> None:
        """Give every prototype the length 1, so that scores are cosines; before each iteration."""
        if self.prototypes is not None:
            self.prototypes.weight.copy_(normalize(self.prototypes.weight, dim=1))

    def forward(self, crops: Sequence[Tensor], *, train_prototypes: bool = True) -> Projected:
        """Embed crops, each (B, C, X, Y).

        Args:
            crops: Those of one size stand side by side.
            train_prototypes: Whether a gradient reaches the prototypes.
        """
        sizes = [tuple(crop.shape[-2:]) for crop in crops]
        features = []
        for _, numbers in groupby(range(len(crops)), key=lambda number: sizes[number]):
            stacked = torch.cat([crops[number] for number in numbers])
            features.append(self.encoder.decode(self.encoder.encode(stacked)))
        projected = self.head(torch.cat(features))
        counts = [len(crop) for crop in crops]
        with torch.autocast(projected.device.type, enabled=False):
            embeddings = normalize(projected if projected.dtype is torch.float64 else projected.float(), dim=1)
            if self.prototypes is None:
                return Projected(embeddings.split(counts), ())
            weight = self.prototypes.weight if train_prototypes else self.prototypes.weight.detach()
            return Projected(embeddings.split(counts), linear(embeddings, weight).split(counts))

    def scores_of(self, embeddings: Tensor) -> Tensor:
        """Return the scores (N, K) of stored embeddings (N, d), without gradient.

        Raises:
            ConfigError: If there are no prototypes.
        """
        if self.prototypes is None:
            message = "ProjectedNet: expected prototypes, found none. Set prototypes for SwAV."
            raise ConfigError(message)
        with torch.no_grad(), torch.autocast(embeddings.device.type, enabled=False):
            return linear(embeddings, self.prototypes.weight.detach())
