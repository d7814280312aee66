"""What every baseline shares: noise for a teacher, dropout of a student, and the output of a step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

from monai.utils.enums import CommonKeys
from torch import Tensor, nn

from medssl.networks.channel_dropout import fixed_masks
from medssl.training.distributed import undistributed
from medssl.training.own_samples import keyed_generator, own_noise, stream_masks
from medssl.training.streams import Streams

Autocast = Callable[[], AbstractContextManager]


def noisy(image: Tensor, *key: int | str, spread: float) -> Tensor:
    """Add Gaussian noise of standard deviation `spread`, cut at twice of it, to (B, C, X, Y, Z).

    The noise of a sample depends on the key and on its place in the batch of all processes only.
    """
    return image + (own_noise(image, *key) * spread).clamp(-2.0 * spread, 2.0 * spread)


def student_logits(
    engine: Any, network: nn.Module, streams: Streams, *, key: Sequence[int | str], autocast: Autocast
) -> Tensor:
    """Return a student's logits (B_l + B_u, K, X, Y, Z) of both streams, float32, with a graph.

    Args:
        engine: The trainer, whose inferer is asked.
        network: The student, wrapped for several processes or not.
        streams: Both streams of the batch.
        key: What its dropout depends on, beside the place of a sample in the batch of all processes. Only
            `ChannelDropout` is keyed.
        autocast: Makes the context of the network.
    """
    bare = undistributed(network)
    counts = (len(streams.images), 0 if streams.unlabeled is None else len(streams.unlabeled))
    masks = stream_masks(bare, counts, generator=keyed_generator(*key))
    with fixed_masks(bare, masks), autocast():
        logits: Tensor = engine.inferer(streams.joined, network)
    return logits.float()


def step_output(streams: Streams, logits: Tensor, loss: Tensor, **log: Tensor | float) -> dict[str, Any]:
    """Return what a step hands to the trainer; `log` reaches the training log."""
    return {
        CommonKeys.IMAGE: streams.images,
        CommonKeys.LABEL: streams.labels,
        CommonKeys.PRED: logits[: len(streams.labels)].detach(),
        CommonKeys.LOSS: loss.detach(),
        "log": {name: value.detach() if isinstance(value, Tensor) else value for name, value in log.items()},
    }
