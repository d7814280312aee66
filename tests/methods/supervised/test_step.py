"""The supervised step learns, uses labelled data only and ignores the unlabelled stream."""

from __future__ import annotations

from pathlib import Path

import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.networks.nets import UNet
from training.small_run import small_run, weights_equal

from medssl.methods.supervised import SupervisedStep
from medssl.training import Optimization


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    run = small_run(tmp_path, epochs=25)
    losses: list[float] = []
    run.trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda engine: losses.append(float(engine.state.output["loss"]))
    )
    run.trainer.run()
    assert sum(losses[-10:]) < 0.8 * sum(losses[:10])


def _trained(tmp_path: Path, unlabeled: torch.Tensor | None) -> UNet:
    run = small_run(tmp_path, epochs=1)
    step = run.trainer._process_function

    def with_unlabeled(engine, batch):
        return step(engine, batch if unlabeled is None else {**batch, "unlabeled": {"image": unlabeled}})

    run.trainer._process_function = with_unlabeled
    run.trainer.run()
    return run.network


def test_the_unlabelled_stream_changes_nothing(tmp_path: Path) -> None:
    unlabeled = torch.full((2, 1, 8, 8, 8), float("nan"))
    assert weights_equal(_trained(tmp_path / "a", None), _trained(tmp_path / "b", unlabeled))


def test_mixed_images_and_labels_reach_the_loss() -> None:
    seen = {}

    class Twice:
        def __call__(self, images, labels, *, iteration):
            return 2.0 * images, torch.cat([1.0 - labels, labels], dim=1)

    def loss(logits, target):
        seen["target"] = target
        return logits.sum() * 0.0

    network = torch.nn.Conv3d(1, 2, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    optimization = Optimization(network=network, optimizer=optimizer, device=torch.device("cpu"), amp=False)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{"image": torch.ones(2, 1, 4, 4, 4), "label": torch.ones(2, 1, 4, 4, 4)}],
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        iteration_update=SupervisedStep(loss=loss, optimization=optimization, mixup=Twice()),
        decollate=False,
    )
    trainer.run()
    assert seen["target"].shape == (2, 2, 4, 4, 4)
    assert trainer.state.output["image"].max() == 2.0
