"""Strong changes of intensity, for what a student sees while its target is made from the crop as it is."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from medssl.core.errors import ConfigError
from medssl.training.own_samples import keyed_generator, own_places

_BIAS_CELLS = 4  # knots of the bias field along an axis


class Perturbation:
    """Change the intensities of crops, and nothing of their geometry, so that a target made without it still holds.

    In this order, each drawn for every sample: gamma between 1/2 and 2, a smooth multiplicative bias field, contrast
    between 0.5 and 1.5, brightness within half a standard deviation, half the resolution (every second crop), a box of
    half the size set to 0 (every second crop), noise with a deviation of up to 0.2. Gamma and field act on intensities
    that were moved to the range from 0 to 1, and are moved back.

    Args:
        strength: Share of these ranges; 0 changes nothing.
        seed: Seed of the run; what is drawn depends on it, on the key and on a sample's place in the batch of all
            processes only.

    Raises:
        ConfigError: If `strength` is not between 0 and 1.

    Note:
        Source: the idea of teaching a strongly augmented image by the prediction of a weakly augmented one is that of
        FixMatch (Sohn et al., NeurIPS 2020). The changes are those usual for volumes.
    """

    def __init__(self, *, strength: float = 1.0, seed: int = 0) -> None:
        if not 0.0 <= strength <= 1.0:
            message = f"perturbation: expected a strength between 0 and 1, got {strength!r}."
            raise ConfigError(message)
        self.strength = strength
        self.seed = seed

    def __call__(self, crops: Tensor, *key: int | str) -> Tensor:
        """Return crops (B, C, X, Y, Z), normalised to mean 0 and deviation 1, with changed intensities."""
        if self.strength == 0.0:
            return crops
        pairs = zip(crops, own_places(len(crops)), strict=True)
        return torch.stack(
            [self._one(crop, keyed_generator(self.seed, "perturbation", *key, place)) for crop, place in pairs]
        )

    def _one(self, crop: Tensor, generator: torch.Generator) -> Tensor:
        strength = self.strength
        gamma, contrast, brightness, noise = (torch.rand(4, generator=generator) * 2.0 - 1.0).tolist()
        is_coarse, has_box = (torch.rand(2, generator=generator) < 0.5 * strength).tolist()
        changed = _with_gamma_and_bias(crop, 2.0 ** (gamma * strength), strength, generator)
        changed = changed * (1.0 + 0.5 * strength * contrast) + 0.5 * strength * brightness
        if is_coarse:
            changed = _coarse(changed)
        if has_box:
            changed = _with_box(changed, generator)
        spread = 0.1 * strength * (1.0 + noise)
        return changed + spread * torch.randn(crop.shape, generator=generator).to(crop.device)


def _with_gamma_and_bias(crop: Tensor, gamma: float, strength: float, generator: torch.Generator) -> Tensor:
    low, high = crop.amin(), crop.amax()
    extent = (high - low).clamp(min=1e-6)  # a crop of one intensity stays as it is
    knots = torch.randn((1, 1, *[_BIAS_CELLS] * (crop.ndim - 1)), generator=generator) * 0.3 * strength
    field = interpolate(knots.to(crop.device), size=crop.shape[1:], mode="trilinear", align_corners=True)[0].exp()
    return ((crop - low) / extent).pow(gamma) * field * extent + low


def _coarse(crop: Tensor) -> Tensor:
    """Return a crop (C, X, Y, Z) seen with half the resolution."""
    half = [max(1, size // 2) for size in crop.shape[1:]]
    small = interpolate(crop[None], size=half, mode="trilinear", align_corners=False)
    return interpolate(small, size=crop.shape[1:], mode="trilinear", align_corners=False)[0]


def _with_box(crop: Tensor, generator: torch.Generator) -> Tensor:
    sizes = [max(1, size // 2) for size in crop.shape[1:]]
    ranges = zip(crop.shape[1:], sizes, strict=True)
    starts = [int(torch.randint(full - size + 1, (), generator=generator)) for full, size in ranges]
    box = tuple(slice(start, start + size) for start, size in zip(starts, sizes, strict=True))
    changed = crop.clone()
    changed[(slice(None), *box)] = 0.0
    return changed
