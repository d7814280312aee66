"""The supervised step learns, uses labelled data only and ignores the unlabelled stream."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from monai.networks.nets import UNet
from training.small_run import small_run, weights_equal

from medssl.losses import DiceCE, Focal
from medssl.methods.supervised import SupervisedStep
from medssl.networks import CSwinUNet
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


@pytest.mark.parametrize("loss", [Focal(), DiceCE()])
def test_deep_supervision_trains_every_level_by_halved_weights(loss) -> None:
    torch.manual_seed(0)
    network = CSwinUNet(out_channels=3, size="tiny", family="slabs", deep_supervision=True, dropout_rate=0.0).train()
    image, label = torch.randn(1, 1, 32, 24, 4), torch.randint(3, (1, 1, 32, 24, 4))
    levels = network(image)
    enlarged = [torch.nn.Upsample(size=(32, 24, 4), mode="trilinear")(level) for level in levels]
    expected = sum(weight * loss(level, label) for weight, level in zip((4 / 7, 2 / 7, 1 / 7), enlarged, strict=True))
    before = [head.bias.detach().clone() for head in (network.head, *network.side_heads)]
    slopes = torch.autograd.grad(expected, [head.bias for head in (network.head, *network.side_heads)])
    output = _one_step(network, loss, image, label)
    torch.testing.assert_close(output["loss"], expected.detach())
    assert output["pred"].shape == (1, 3, 32, 24, 4)
    for head, old, slope in zip((network.head, *network.side_heads), before, slopes, strict=True):
        torch.testing.assert_close(head.bias.detach(), old - 0.1 * slope)


def _one_step(network: torch.nn.Module, loss, image: torch.Tensor, label: torch.Tensor, **options) -> dict:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    optimization = Optimization(network=network, optimizer=optimizer, device=torch.device("cpu"), amp=False)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[{"image": image, "label": label}],
        network=network,
        optimizer=optimizer,
        loss_function=loss,
        iteration_update=SupervisedStep(loss=loss, optimization=optimization, **options),
        decollate=False,
    )
    trainer.run()
    return trainer.state.output


def test_mixed_images_and_labels_reach_the_loss() -> None:
    seen = {}

    class Twice:
        def __call__(self, images, labels, *, iteration):
            return 2.0 * images, torch.cat([1.0 - labels, labels], dim=1)

    def loss(logits, target):
        seen["target"] = target
        return logits.sum() * 0.0

    image = label = torch.ones(2, 1, 4, 4, 4)
    output = _one_step(torch.nn.Conv3d(1, 2, 1), loss, image, label, mixup=Twice())
    assert seen["target"].shape == (2, 2, 4, 4, 4)
    assert output["image"].max() == 2.0
