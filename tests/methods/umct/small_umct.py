"""A tiny co-training run: three views, two streams, the real trainer and resume."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine
from monai.data import DataLoader
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents, default_prepare_batch
from monai.transforms import Compose, RandFlipd
from torch.optim import Optimizer
from training.small_run import make_cases

from medssl.core.seeding import seed_everything
from medssl.data.datasets import SeededCacheDataset
from medssl.losses import DiceCE
from medssl.methods.umct import PseudoLabels, UmctStep
from medssl.networks import MultiViewNet, SplitSegResNet
from medssl.training import Optimization, Ramp, ResumeHandler, StreamSampler, TwoStreamLoader

SHAPE = (4, 6, 8)  # no two axes alike


def small_network(
    *, views: Any = 3, seed: int = 0, classes: int = 2, channels: int = 1, **options: Any
) -> MultiViewNet:
    """Make a network of 4-channel SegResNets."""
    torch.manual_seed(seed)
    part = partial(SplitSegResNet, init_filters=4, blocks_down=(1, 1), blocks_up=(1,), **options)
    return MultiViewNet(in_channels=channels, out_channels=classes, network=part, views=views)


def small_batch(*, classes: int = 2, channels: int = 1, unlabeled: int = 2) -> dict[str, Any]:
    """Make a batch of two labelled crops and some unlabelled ones."""
    generator = torch.Generator().manual_seed(7)
    image = torch.randn(2, channels, *SHAPE, generator=generator)
    label = torch.randint(0, classes, (2, 1, *SHAPE), generator=generator)
    batch: dict[str, Any] = {"image": image, "label": label, "case_id": ["a", "b"]}
    if unlabeled:
        crops = torch.randn(unlabeled, channels, *SHAPE, generator=generator)
        batch["unlabeled"] = {"image": crops, "case_id": [f"u{i}" for i in range(unlabeled)]}
    return batch


def make_step(
    network: MultiViewNet, *, weight: float = 0.2, rate: float = 0.1, optimizer: Optimizer | None = None, **options: Any
) -> UmctStep:
    """Make a step, by default on plain SGD, where weights move by rate times gradient."""
    optimizer = optimizer or torch.optim.SGD(network.parameters(), lr=rate)
    optimization = Optimization(network=network, optimizer=optimizer, device=torch.device("cpu"), amp=False)
    options = {"pseudo_labels": PseudoLabels(passes=4, chunk=2), "spacing_mm": (1.0, 1.0, 1.0)} | options
    return UmctStep(network=network, loss=DiceCE(), optimization=optimization, weight=Ramp(final=weight), **options)


def bare_engine(network: MultiViewNet) -> Engine:
    """Make what a step needs of the trainer."""
    engine = Engine(lambda engine, batch: None)
    engine.register_events(*IterationEvents)
    engine.network = network
    engine.prepare_batch = default_prepare_batch
    engine.non_blocking = False
    engine.to_kwargs = {}
    engine.state.device = torch.device("cpu")
    engine.state.iteration = 1
    return engine


@dataclass
class SmallUmct:
    """What a test wants to look at."""

    trainer: SupervisedTrainer
    network: MultiViewNet


def small_umct(
    folder: Path,
    *,
    on_batch: Callable[[int], None] = lambda iteration: None,
    accumulation: int = 1,
    ramp: Ramp | None = None,
    unlabeled: int = 4,
    save_minutes: float = 1e6,
) -> SmallUmct:
    """Build a run of 3 epochs of 4 iterations whose second stage begins at iteration 6."""
    seed_everything(0)
    network = small_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    optimization = Optimization(
        network=network,
        optimizer=optimizer,
        device=torch.device("cpu"),
        amp=False,
        clip_norm=1.0,
        accumulation=accumulation,
    )
    labeled, other = (
        _loader(make_cases(count), stream) for count, stream in ((3, "labeled"), (unlabeled, "unlabeled"))
    )
    loader = TwoStreamLoader(labeled, other)
    step = UmctStep(
        network=network,
        loss=DiceCE(),
        optimization=optimization,
        weight=ramp or Ramp(final=0.5, start=6, length=3),
        spacing_mm=(1.0, 1.0, 1.0),
        pseudo_labels=PseudoLabels(passes=2),
    )

    def watched(engine: SupervisedTrainer, batch: dict) -> dict:
        on_batch(engine.state.iteration)
        return step(engine, batch)

    resume = ResumeHandler(
        path=str(folder / "last.pt"),
        parts={"network": network, "optimizer": optimizer},
        optimization=optimization,
        loader=loader,
        interval_minutes=save_minutes,
    )
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=3,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=step.loss,
        iteration_update=watched,
        decollate=False,
        train_handlers=[resume],
    )
    return SmallUmct(trainer, network)


def _loader(cases: list[dict], stream: str) -> DataLoader:
    keys = ["image", "label"] if stream == "labeled" else ["image"]
    data = [{key: value for key, value in case.items() if key in (*keys, "case_id")} for case in cases]
    dataset = SeededCacheDataset(data, Compose([RandFlipd(keys, prob=0.5)]), stream=stream, num_workers=0)
    sampler = StreamSampler(dataset, samples_per_epoch=8)
    return DataLoader(dataset, batch_size=2, sampler=sampler, num_workers=0, generator=torch.Generator())
