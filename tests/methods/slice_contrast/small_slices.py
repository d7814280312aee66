"""Small volumes and images with a manifest, a tiny network and runs on them. Synthetic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch
from ignite.engine import Engine
from monai.data import DataLoader
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents
from monai.transforms import Compose, RandScaleCrop, RandScaleIntensity, Resize
from torch import nn

from medssl.core.seeding import seed_everything
from medssl.data.manifest import Case, Manifest, save_manifest
from medssl.methods.slice_contrast import EmbeddingQueue, MocoStep, SliceCrops, SwavStep, pretraining_slices
from medssl.networks import ProjectedNet, SliceNet
from medssl.training import EmaTeacher, Optimization, ResumeHandler, StreamSampler, TwoStreamLoader

CPU = torch.device("cpu")


def write_volumes(folder: Path, *, count: int = 2, shape: tuple[int, int, int] = (20, 24, 8)) -> Path:
    """Write CT-like volumes in RAS whose slices all differ, and their manifest."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(3)
    cases = []
    for number in range(count):
        voxels = rng.integers(-1000, 400, shape).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 2.0, 1.0])), folder / f"ct_{number}.nii.gz")
        cases.append(Case(id=f"ct_{number}", image=(f"ct_{number}.nii.gz",)))
    manifest = Manifest(name="ct", modality="CT", labels={"0": "background"}, unlabeled=tuple(cases))
    save_manifest(folder / "manifest.json", manifest)
    return folder / "manifest.json"


def crops(sides: tuple[int, int] = (16, 8)) -> list[dict[str, Any]]:
    """Two large and two small crops."""
    kinds = []
    for side, scale in zip(sides, (0.8, 0.4), strict=True):
        steps = [
            RandScaleCrop(roi_scale=scale, max_roi_scale=1.0, random_size=True),
            Resize(spatial_size=(side, side), mode="bilinear"),
            RandScaleIntensity(factors=0.3, prob=1.0),
        ]
        kinds.append({"count": 2, "transform": Compose(steps)})
    return kinds


def small_network(*, seed: int = 0, prototypes: int = 6, batch_norm: bool = True) -> ProjectedNet:
    torch.manual_seed(seed)
    return ProjectedNet(
        encoder=SliceNet(size="tiny"), hidden=16, dimensions=8, prototypes=prototypes, batch_norm=batch_norm
    )


def plain_optimization(network: nn.Module, *, rate: float = 0.05) -> Optimization:
    """Plain SGD, where weights move by rate times gradient."""
    optimizer = torch.optim.SGD(network.parameters(), lr=rate)
    return Optimization(network=network, optimizer=optimizer, device=CPU, amp=False)


def bare_engine(*, iteration: int = 1) -> Engine:
    engine = Engine(lambda engine, batch: None)
    engine.register_events(*IterationEvents)
    engine.non_blocking = False
    engine.state.device, engine.state.iteration = CPU, iteration
    return engine


def views(*, samples: int = 3, sides: tuple[int, ...] = (16, 16, 8), seed: int = 5) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "views": [torch.rand(samples, 1, side, side, generator=generator) for side in sides],
        "case_id": ["a"] * samples,
    }


def run(folder: Path, manifest: Path, *, method: str, epochs: int) -> dict[str, torch.Tensor]:
    """Train the two iterations of each epoch, resuming from `folder` where it holds a run; return the weights."""
    seed_everything(0)
    network = small_network(prototypes=6 if method == "swav" else 0)
    data = SliceCrops(pretraining_slices(manifest=str(manifest)), crops(), seed=4)
    sampler = StreamSampler(data, samples_per_epoch=6, seed=1)
    loader = TwoStreamLoader(DataLoader(data, batch_size=3, sampler=sampler, num_workers=0))
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
    optimization = Optimization(network=network, optimizer=optimizer, device=CPU, amp=False)
    queue = EmbeddingQueue(length=7, dimensions=8, views=2 if method == "swav" else 1)
    parts: dict[str, Any] = {"network": network, "optimizer": optimizer, "queue": queue}
    common: dict[str, Any] = {"network": network, "optimization": optimization, "queue": queue}
    if method == "swav":
        step: Any = SwavStep(frozen_iterations=2, **common)
    else:
        parts["keys"] = EmaTeacher(teacher=small_network(seed=9, prototypes=0), student=network, decay=0.999)
        step = MocoStep(keys=parts["keys"], **common)
    resume = ResumeHandler(path=str(folder / "last.pt"), parts=parts, optimization=optimization, loader=loader)
    trainer = SupervisedTrainer(
        device=CPU,
        max_epochs=epochs,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=lambda *_: None,
        iteration_update=step,
        decollate=False,
        train_handlers=[resume],
    )
    trainer.run()
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}
