"""UA-MT: uncertain voxels teach nothing, and certain ones as in a mean teacher."""

from __future__ import annotations

import pytest
import torch
from methods.baselines.small_steps import (
    bare_engine,
    plain_optimization,
    small_batch,
    small_network,
    stand_in,
    teacher_of,
)
from torch import nn

from medssl.core.errors import ConfigError
from medssl.losses import DiceCE
from medssl.losses.consistency import certain_mean_square, certain_voxels
from medssl.methods.baselines import UaMtStep
from medssl.methods.baselines.teaching import keyed_generator, noisy
from medssl.networks.channel_dropout import draw_masks, fixed_masks
from medssl.training import EmaTeacher, Ramp


def _step(network, *, classes: int = 3, channels: int = 1, **options) -> UaMtStep:
    options = {"optimization": plain_optimization(network), "passes": 3} | options
    return UaMtStep(
        loss=DiceCE(),
        teacher=teacher_of(network, classes=classes, channels=channels),
        weight=Ramp(final=0.1),
        threshold=Ramp(final=1.0, length=100),
        **options,
    )


@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (3, 2), (14, 1)])
def test_a_step_runs_for_any_number_of_classes_and_channels(classes: int, channels: int) -> None:
    network = small_network(classes=classes, channels=channels)
    step = _step(network, classes=classes, channels=channels)
    output = step(bare_engine(network), small_batch(classes=classes, channels=channels))
    assert torch.isfinite(output["loss"])


def test_the_loss_equals_the_one_written_out() -> None:
    network, batch = small_network(rate=0.0), small_batch()
    step = _step(network, optimization=stand_in())
    found = step(bare_engine(network, iteration=51), batch)["log"]["consistency_loss"]
    crops, teacher = batch["unlabeled"]["image"], step.teacher.network
    masks = draw_masks(teacher, 6, generator=keyed_generator(0, "teacher masks", 50))
    passes = []
    with torch.no_grad():
        for k in range(3):
            with fixed_masks(teacher, [mask[2 * k : 2 * k + 2] for mask in masks]):
                passes.append(teacher(noisy(crops, 0, "teacher pass", 50, k, spread=0.1)).softmax(1))
        taught = teacher(noisy(crops, 0, "teacher", 50, spread=0.1)).softmax(1)
        certain = certain_voxels(torch.stack(passes).mean(0), progress=Ramp(final=1.0, length=100)(50))
        expected = certain_mean_square(network(crops).softmax(1), taught, certain)
    assert 0 < certain.sum() < certain.numel()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_teacher_that_is_certain_of_nothing_teaches_nothing() -> None:
    network = small_network()
    for parameter in (network.conv_final[2].conv.weight, network.conv_final[2].conv.bias):
        nn.init.zeros_(parameter)  # uniform everywhere
    step = _step(network, optimization=stand_in())
    assert step(bare_engine(network), small_batch())["log"]["consistency_loss"].item() == 0.0


def test_a_teacher_without_dropout_is_refused() -> None:
    student, teacher = (nn.Sequential(nn.Conv3d(1, 3, 1)) for _ in range(2))
    with pytest.raises(ConfigError, match="network with ChannelDropout"):
        UaMtStep(
            loss=DiceCE(),
            optimization=stand_in(),
            teacher=EmaTeacher(teacher=teacher, student=student),
            weight=Ramp(final=0.1),
            threshold=Ramp(final=1.0),
        )
