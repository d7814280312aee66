"""The gradient phase of one view: its logits of crops, with this iteration's dropout masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from torch import Tensor

from medssl.methods.umct.targets import mask_generator
from medssl.networks.channel_dropout import fixed_masks
from medssl.networks.multi_view_net import MultiViewNet
from medssl.networks.views import View
from medssl.training.own_samples import stream_masks


def gradient_logits(
    network: MultiViewNet,
    view: View,
    crops: Tensor,
    *,
    streams: Sequence[int],
    seed: int,
    iteration: int,
    autocast: Callable[[], AbstractContextManager],
) -> Tensor:
    """Return one view's logits (B, K, X, Y, Z) of all crops, float32, with a graph.

    Args:
        network: The views.
        view: The view, one of `network.views`.
        crops: Crops of all streams (B, C, X, Y, Z), one stream after the other, in the common frame.
        streams: Crops of each stream; masks are drawn stream by stream.
        seed: Seed of the run.
        iteration: Iteration of the run; with seed and view it keys the masks.
        autocast: Makes the context of the network.
    """
    part = network.networks[view.name]
    generator = mask_generator(seed, "gradient", iteration, view)
    with autocast(), fixed_masks(part, stream_masks(part, streams, generator=generator)):
        logits = network.view_logits(crops, view)
    return logits.float()
