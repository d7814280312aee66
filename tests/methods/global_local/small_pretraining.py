"""Small volumes with one bright slab at its own height, and steps on them."""

from __future__ import annotations

from typing import Any

import torch
from ignite.engine import Engine
from monai.data import DataLoader
from monai.transforms import Compose, EnsureTyped, RandScaleIntensityd, RandShiftIntensityd

from medssl.losses.contrastive import ContrastiveLoss
from medssl.losses.region_masks import quincunx_regions
from medssl.methods.global_local import (
    CropDataset,
    GlobalContrastStep,
    GlobalEmbedder,
    LocalContrastStep,
    LocalEmbedder,
    PartitionSampler,
)
from medssl.networks import SliceUNet
from medssl.training import Optimization, TwoStreamLoader

SIDE = 48
_CHANNELS = (4, 8)


def make_volumes(count: int = 3, depth: int = 6) -> list[dict[str, Any]]:
    """Make volumes (1, 48, 48, depth) whose slices get brighter upwards."""
    generator = torch.Generator().manual_seed(5)
    heights = torch.linspace(0.2, 1.0, depth)
    return [
        {"image": 0.1 * torch.rand(1, SIDE, SIDE, depth, generator=generator) + heights, "case_id": f"case_{number}"}
        for number in range(count)
    ]


def make_dataset(volumes: list[dict[str, Any]] | None = None, **options: Any) -> CropDataset:
    """Cut slices of the volumes, with two views that differ in intensity."""
    views = Compose([RandShiftIntensityd("image", offsets=0.3, prob=1.0), RandScaleIntensityd("image", 0.3, prob=1.0)])
    defaults = {"views": views, "patch_size": (SIDE, SIDE, 1), "cells": (1, 1, 2), "num_workers": 0, "aligned": True}
    return CropDataset(volumes or make_volumes(), Compose([EnsureTyped("image")]), **{**defaults, **options})


def make_loader(dataset: CropDataset, *, rank: int = 0, world_size: int = 1, volumes: int = 2) -> TwoStreamLoader:
    """Load batches of two volumes with one slice of each cell."""
    cells = int(torch.tensor(dataset.cells).prod())
    volumes //= world_size
    sampler = PartitionSampler(
        dataset, volumes=volumes, cells=cells, iterations_per_epoch=2, rank=rank, world_size=world_size
    )
    size = volumes * cells
    return TwoStreamLoader(DataLoader(dataset, batch_size=size, sampler=sampler, generator=torch.Generator()))


def make_network(seed: int = 0, norm: Any = "instance") -> SliceUNet:
    """Make a slice network of two levels."""
    torch.manual_seed(seed)
    return SliceUNet(channels=_CHANNELS, norm=norm)


def global_step(network: SliceUNet, **options: Any) -> tuple[GlobalEmbedder, GlobalContrastStep]:
    """Make the network of the first stage and its step."""
    embedder = GlobalEmbedder(network=network, image_size=(SIDE, SIDE, 1), pool="avg", widths=(16, 8))
    return embedder, GlobalContrastStep(loss=ContrastiveLoss(), optimization=optimization_of(embedder), **options)


def local_step(network: SliceUNet, **options: Any) -> tuple[LocalEmbedder, LocalContrastStep]:
    """Make the network of the second stage and its step."""
    embedder = LocalEmbedder(
        network=network,
        regions=quincunx_regions((SIDE, SIDE, 1)),
        decoder_blocks=1,
        image_size=(SIDE, SIDE, 1),
        width=8,
    )
    step = LocalContrastStep(
        network=embedder, loss=ContrastiveLoss(), optimization=optimization_of(embedder), **options
    )
    return embedder, step


def optimization_of(network: torch.nn.Module) -> Optimization:
    """Make plain steps whose size is that of the gradient."""
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    return Optimization(network=network, optimizer=optimizer, device=torch.device("cpu"), amp=False)


def bare_engine(network: torch.nn.Module) -> Engine:
    """Make an engine that only has what a step asks for."""
    from monai.engines.utils import IterationEvents

    engine: Any = Engine(lambda engine, batch: None)
    engine.register_events(*IterationEvents)
    engine.network, engine.non_blocking, engine.to_kwargs = network, False, {}
    engine.state.device, engine.state.iteration = torch.device("cpu"), 1
    return engine
