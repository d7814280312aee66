"""A tiny but complete training run: real trainer, loaders, augmentation, dropout and handlers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from monai.data import DataLoader
from monai.engines import SupervisedTrainer
from monai.losses import DiceCELoss
from monai.networks.nets import UNet
from monai.transforms import Compose, RandFlipd, RandGaussianNoised

from medssl.core.seeding import seed_everything
from medssl.data.datasets import SeededCacheDataset
from medssl.methods.supervised import SupervisedStep
from medssl.training import Optimization, ResumeHandler, Schedule, StreamSampler, TwoStreamLoader, distribute
from medssl.training.distributed import process_count, process_rank, undistributed


@dataclass
class SmallRun:
    """What a test wants to look at."""

    trainer: SupervisedTrainer
    network: UNet
    optimization: Optimization


def make_cases(count: int = 5) -> list[dict]:
    """Make random images (1, 8, 8, 8) whose label is what is bright."""
    generator = torch.Generator().manual_seed(3)
    images = [torch.randn(1, 8, 8, 8, generator=generator) for _ in range(count)]
    return [{"image": image, "label": (image > 0).float(), "case_id": f"c{i}"} for i, image in enumerate(images)]


def small_run(
    folder: Path,
    *,
    epochs: int = 3,
    cases: list[dict] | None = None,
    on_batch: Callable[[int], None] = lambda iteration: None,
    accumulation: int = 1,
    seed: int = 0,
    amp: bool = False,
    save_minutes: float = 1e6,
    num_workers: int = 0,
    batch_size: int = 2,
    plain: bool = False,
) -> SmallRun:
    """Build the run, on all joined processes; `on_batch` is called with the iteration before each step.

    `plain` takes out what makes processes differ beyond the order of sums: dropout, and Adam, which turns the rounding
    noise of a gradient of zero into whole steps.
    """
    rank, processes = process_rank(), process_count()
    seed_everything(seed + rank)
    data = make_cases() if cases is None else cases
    network = UNet(3, 1, 2, channels=(4, 8), strides=(2,), num_res_units=1, dropout=0.0 if plain else 0.2)
    if processes > 1:
        network = distribute(network, device="cpu")
    optimizer = (torch.optim.SGD if plain else torch.optim.AdamW)(network.parameters(), lr=1e-2)
    schedule = Schedule(optimizer=optimizer, total_steps=epochs * 4)
    optimization = Optimization(
        network=network,
        optimizer=optimizer,
        device=torch.device("cpu"),
        schedule=schedule,
        amp=amp,
        clip_norm=1.0,
        accumulation=accumulation,
        max_non_finite=3,
    )
    transform = Compose([RandFlipd(["image", "label"], prob=0.5), RandGaussianNoised("image", prob=0.5)])
    dataset = SeededCacheDataset(data, transform, seed=seed, num_workers=0)
    samples = 4 * batch_size * processes
    sampler = StreamSampler(dataset, samples_per_epoch=samples, seed=seed, rank=rank, world_size=processes)
    labeled = DataLoader(
        dataset, batch_size=batch_size, sampler=sampler, num_workers=num_workers, generator=torch.Generator()
    )
    loader = TwoStreamLoader(labeled)
    step = SupervisedStep(loss=DiceCELoss(to_onehot_y=True, softmax=True), optimization=optimization)

    def watched(engine: SupervisedTrainer, batch: dict) -> dict:
        on_batch(engine.state.iteration)
        return step(engine, batch)

    resume = ResumeHandler(
        path=str(folder / "last.pt"),
        parts={"network": network, "optimizer": optimizer, "schedule": schedule},
        optimization=optimization,
        loader=loader,
        settings={"seed": seed},
        interval_minutes=save_minutes,
    )
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=step.loss,
        iteration_update=watched,
        decollate=False,
        train_handlers=[resume],
    )
    return SmallRun(trainer, undistributed(network), optimization)


def weights_equal(first: UNet, second: UNet) -> bool:
    """Tell whether two networks have the same weights, bit for bit."""
    pairs = zip(first.state_dict().values(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)
