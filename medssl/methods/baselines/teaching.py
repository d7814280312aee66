"""What every baseline shares: noise for a teacher, and the output of a step."""

from __future__ import annotations

from typing import Any

import torch
from monai.utils.enums import CommonKeys
from torch import Tensor

from medssl.core.seeding import derive_seed
from medssl.training.streams import Streams


def noisy(image: Tensor, generator: torch.Generator, *, spread: float) -> Tensor:
    """Add Gaussian noise of standard deviation `spread`, cut at twice of it, to (B, C, X, Y, Z)."""
    noise = torch.randn(image.shape, generator=generator) * spread
    return image + noise.clamp(-2.0 * spread, 2.0 * spread).to(image.device)


def teacher_generator(seed: int, iteration: int) -> torch.Generator:
    """Return the generator of what a teacher is disturbed by; nothing else in the run draws from it."""
    return torch.Generator().manual_seed(derive_seed(seed, "teacher", iteration))


def step_output(streams: Streams, logits: Tensor, loss: Tensor, **log: Tensor | float) -> dict[str, Any]:
    """Return what a step hands to the trainer; `log` reaches the training log."""
    return {
        CommonKeys.IMAGE: streams.images,
        CommonKeys.LABEL: streams.labels,
        CommonKeys.PRED: logits[: len(streams.labels)].detach(),
        CommonKeys.LOSS: loss.detach(),
        "log": {name: value.detach() if isinstance(value, Tensor) else value for name, value in log.items()},
    }
