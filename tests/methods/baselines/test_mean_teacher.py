"""Mean teacher against the same step written out, and where its loss must be nothing."""

from __future__ import annotations

from copy import deepcopy

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

from medssl.losses import DiceCE, dice_ce
from medssl.methods.baselines import MeanTeacherStep
from medssl.methods.baselines.teaching import noisy
from medssl.training import Ramp


def _step(network, *, optimization=None, weight: float = 0.1, **options) -> MeanTeacherStep:
    return MeanTeacherStep(
        loss=DiceCE(),
        optimization=optimization or plain_optimization(network),
        teacher=options.pop("teacher", None) or teacher_of(network),
        weight=Ramp(final=weight),
        **options,
    )


@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (3, 2), (14, 1)])
def test_a_step_runs_for_any_number_of_classes_and_channels(classes: int, channels: int) -> None:
    network = small_network(classes=classes, channels=channels)
    step = _step(network, teacher=teacher_of(network, classes=classes, channels=channels))
    output = step(bare_engine(network), small_batch(classes=classes, channels=channels))
    assert torch.isfinite(output["loss"])
    assert output["pred"].shape == (2, classes, 4, 6, 8)


def test_a_step_equals_the_one_written_out() -> None:
    network, batch = small_network(rate=0.0), small_batch()
    start, step = deepcopy(network), _step(network, weight=0.7, teacher=teacher_of(network, rate=0.0))
    output = step(bare_engine(network), batch)
    crops = batch["unlabeled"]["image"]
    with torch.no_grad():  # the first teacher is the student
        taught = start(noisy(crops, 0, "teacher", 0, spread=0.1)).softmax(1)
    expected = dice_ce(start(batch["image"]), batch["label"])
    expected = expected + 0.7 * ((start(crops).softmax(1) - taught) ** 2).mean()
    expected.backward()
    assert output["loss"].item() == pytest.approx(expected.item(), abs=1e-6)
    for moved, parameter in zip(network.parameters(), start.parameters(), strict=True):
        assert torch.allclose(moved, parameter - 0.1 * parameter.grad, atol=1e-6)


def test_an_equal_teacher_without_noise_and_dropout_teaches_nothing() -> None:
    network = small_network(rate=0.0)
    step = _step(network, noise=0.0, teacher=teacher_of(network, rate=0.0))
    assert step(bare_engine(network), small_batch())["log"]["consistency_loss"].item() < 1e-12


def test_the_teacher_follows_once_for_each_optimiser_step() -> None:
    network = small_network()
    optimization = plain_optimization(network)
    optimization.accumulation = 2
    step = _step(network, optimization=optimization)
    for _ in range(4):
        step(bare_engine(network), small_batch())
    assert step.teacher.updates == 2
    assert all(parameter.grad is None for parameter in step.teacher.network.parameters())


def test_labels_do_not_reach_the_consistency_nor_unlabelled_crops_the_supervised_loss() -> None:
    batch = small_batch()
    others = ({**batch, "label": 2 - batch["label"]}, {**batch, "unlabeled": {"image": -batch["unlabeled"]["image"]}})
    logs = []
    for each in (batch, *others):
        network = small_network(rate=0.0)
        logs.append(_step(network, optimization=stand_in())(bare_engine(network), each)["log"])
    assert logs[0]["consistency_loss"] == logs[1]["consistency_loss"] != logs[2]["consistency_loss"]
    assert logs[0]["supervised_loss"] == logs[2]["supervised_loss"] != logs[1]["supervised_loss"]


def test_without_unlabelled_crops_it_is_supervised_training() -> None:
    network, start = small_network(rate=0.0), small_network(rate=0.0)
    batch = small_batch(unlabeled=0)
    output = _step(network)(bare_engine(network), batch)
    assert output["loss"].item() == pytest.approx(dice_ce(start(batch["image"]), batch["label"]).item(), abs=1e-6)


def _run(step: MeanTeacherStep, network, iterations: range) -> None:
    for iteration in iterations:
        step(bare_engine(network, iteration=iteration), small_batch())


def test_a_run_goes_on_from_the_saved_teacher_as_if_it_had_not_stopped() -> None:
    network = small_network()
    step = _step(network, weight=5.0)
    _run(step, network, range(1, 4))
    saved = deepcopy((network.state_dict(), step.teacher.state_dict()))
    _run(step, network, range(4, 7))
    resumed = small_network(seed=5)
    again = _step(resumed, weight=5.0)
    resumed.load_state_dict(saved[0])
    again.teacher.load_state_dict(saved[1])
    _run(again, resumed, range(4, 7))
    for nets in ((network, resumed), (step.teacher.network, again.teacher.network)):
        assert all(torch.equal(a, b) for a, b in zip(*(net.parameters() for net in nets), strict=True))
