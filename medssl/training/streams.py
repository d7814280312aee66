"""What a semi-supervised step reads from a batch: labelled crops, and unlabelled ones without anything else."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from monai.data.meta_tensor import MetaTensor
from monai.utils.enums import CommonKeys
from torch import Tensor

from medssl.core.errors import ConfigError


class Streams(NamedTuple):
    """The two streams of a batch on the device.

    Attributes:
        images: Labelled crops (B_l, C, X, Y, Z).
        labels: Their labels (B_l, 1, X, Y, Z).
        unlabeled: Unlabelled crops (B_u, C, X, Y, Z), or None.
    """

    images: Tensor
    labels: Tensor
    unlabeled: Tensor | None

    @property
    def joined(self) -> Tensor:
        """Labelled crops, then the unlabelled ones, for one forward pass."""
        return self.images if self.unlabeled is None else torch.cat([self.images, self.unlabeled])


def read_streams(engine: Any, batch: dict[str, Any]) -> Streams:
    """Move both streams of a `TwoStreamLoader` batch to the trainer's device.

    Of an unlabelled case only the image is read: whatever else it carries cannot reach a loss.

    Raises:
        ConfigError: If the crops of the two streams differ in channels or size.
    """
    images, labels = engine.prepare_batch(batch, engine.state.device, engine.non_blocking, **engine.to_kwargs)
    images, labels = _plain(images), _plain(labels)
    given = batch.get("unlabeled")
    if given is None or not len(given[CommonKeys.IMAGE]):
        return Streams(images, labels, None)
    unlabeled = read_images(engine, given)
    if unlabeled.shape[1:] != images.shape[1:]:
        message = (
            f"batch: expected unlabelled crops of the labelled ones' shape {tuple(images.shape[1:])}, "
            f"got {tuple(unlabeled.shape[1:])}. Give both streams the same channels and patch_size."
        )
        raise ConfigError(message)
    return Streams(images, labels, unlabeled)


def read_images(engine: Any, batch: dict[str, Any]) -> Tensor:
    """Move the images (B, C, X, Y, Z) of a batch to the trainer's device, and nothing else of it."""
    given = {CommonKeys.IMAGE: batch[CommonKeys.IMAGE]}
    images, _ = engine.prepare_batch(given, engine.state.device, engine.non_blocking, **engine.to_kwargs)
    return _plain(images)


def _plain(tensor: Tensor) -> Tensor:
    """Return a tensor without MONAI's metadata, which says nothing of crops and fails where a batch is indexed."""
    return tensor.as_tensor() if isinstance(tensor, MetaTensor) else tensor


def case_ids(batch: dict[str, Any]) -> list[str]:
    """Return the ids of all cases of a batch, labelled ones first."""
    return [*batch.get("case_id", ()), *batch.get("unlabeled", {}).get("case_id", ())]
