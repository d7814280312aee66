"""A batch, a network and an engine for one step of a baseline."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents, default_prepare_batch
from torch import nn

from medssl.networks import SplitSegResNet
from medssl.training import EmaTeacher, Optimization

SHAPE = (4, 6, 8)


def small_network(*, classes: int = 3, channels: int = 1, seed: int = 0, rate: float = 0.3) -> SplitSegResNet:
    torch.manual_seed(seed)
    return SplitSegResNet(
        in_channels=channels,
        out_channels=classes,
        init_filters=4,
        blocks_down=(1, 1),
        blocks_up=(1,),
        dropout_rate=rate,
    )


def small_batch(*, classes: int = 3, channels: int = 1, unlabeled: int = 2) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(7)
    batch: dict[str, Any] = {
        "image": torch.randn(2, channels, *SHAPE, generator=generator),
        "label": torch.randint(0, classes, (2, 1, *SHAPE), generator=generator),
        "case_id": ["a", "b"],
    }
    if unlabeled:
        batch["unlabeled"] = {"image": torch.randn(unlabeled, channels, *SHAPE, generator=generator)}
    return batch


def plain_optimization(network: nn.Module, *, rate: float = 0.1) -> Optimization:
    """Plain SGD, where weights move by rate times gradient."""
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    return Optimization(network=network, optimizer=optimizer, device=torch.device("cpu"), amp=False)


def teacher_of(network: nn.Module, **options: Any) -> EmaTeacher:
    return EmaTeacher(teacher=small_network(seed=9, **options), student=network)


def bare_engine(network: nn.Module, *, iteration: int = 1) -> Engine:
    engine = Engine(lambda engine, batch: None)
    engine.register_events(*IterationEvents)
    engine.network, engine.inferer = network, lambda image, network: network(image)
    engine.prepare_batch, engine.non_blocking, engine.to_kwargs = default_prepare_batch, False, {}
    engine.state.device, engine.state.iteration = torch.device("cpu"), iteration
    return engine


def stand_in() -> SimpleNamespace:
    """An optimization that computes the loss and takes no step."""
    from contextlib import nullcontext

    return SimpleNamespace(autocast=nullcontext, at_boundary=True, update=lambda engine, loss, *, case_ids: loss)
