"""Bend the contrast of each sequence of an image by a power of its own."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform, RandomizableTransform
from torch import Tensor

from medssl.core.errors import ConfigError


class RandGammaSequencesd(RandomizableTransform, MapTransform):
    """Raise each channel of (C, X, Y, Z) to a power of its own, between its own extremes.

    MONAI's RandAdjustContrastd takes the extremes of all channels together and one power for them, which in an image of
    several sequences says little about any of them. Mean and standard deviation of a channel stay, so that images that
    were normalised still are, and an ADC map keeps its unit.

    Args:
        keys: Images.
        gamma: Smallest and largest power, above 0.
        prob: Probability for each channel.
        allow_missing_keys: Pass over keys that a sample lacks.

    Raises:
        ConfigError: If a power is not above 0, or the largest comes first.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        gamma: tuple[float, float] = (0.7, 1.5),
        prob: float = 0.3,
        allow_missing_keys: bool = False,
    ) -> None:
        MapTransform.__init__(self, keys, allow_missing_keys)
        RandomizableTransform.__init__(self, 1.0)
        if not 0 < gamma[0] <= gamma[1]:
            message = f"gamma: expected two powers above 0 in order, got {gamma}."
            raise ConfigError(message)
        self.gamma = (float(gamma[0]), float(gamma[1]))
        self.channel_prob = prob
        self.powers: list[float] = []

    def randomize(self, data: Any = None) -> None:
        """Draw a power for each of `data` channels; 1 where nothing happens."""
        chosen = self.R.random_sample(data) < self.channel_prob
        self.powers = [float(each) for each in self.R.uniform(*self.gamma, size=data) * chosen + ~chosen]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Draw the powers of each image of a sample and apply them."""
        bent = dict(data)
        for key in self.key_iterator(bent):
            self.randomize(len(bent[key]))
            image = bent[key].clone()
            for channel, power in enumerate(self.powers):
                if power != 1.0:
                    image[channel] = bend(image[channel], power)
            bent[key] = image
        return bent


def bend(image: Tensor, power: float) -> Tensor:
    """Raise an image, scaled from its minimum and maximum to 0 and 1, to a power; its mean and deviation stay."""
    low, high = image.min(), image.max()
    if high == low:
        return image
    curve = ((image - low) / (high - low)).pow(power)
    # Rounding may leave an image with nearly no range flat
    deviation = curve.std().clamp_min(torch.finfo(curve.dtype).tiny)
    return (curve - curve.mean()) / deviation * image.std() + image.mean()
