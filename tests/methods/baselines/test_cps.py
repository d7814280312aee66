"""CPS: symmetric, crossed, and without gradient into the network that labels."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from methods.baselines.small_steps import bare_engine, plain_optimization, small_batch, small_network, stand_in

from medssl.core.errors import ConfigError
from medssl.losses import DiceCE, dice_ce
from medssl.methods.baselines import CpsStep
from medssl.networks import SplitSegResNet, TwinNet
from medssl.training import Ramp


def _twins(*, classes: int = 3, channels: int = 1) -> TwinNet:
    torch.manual_seed(0)
    part = partial(SplitSegResNet, init_filters=4, blocks_down=(1, 1), blocks_up=(1,), dropout_rate=0.0)
    sizes = {"in_channels": channels, "out_channels": classes}
    return TwinNet(first=part(**sizes), second=part(**sizes))


def _step(network: TwinNet, *, weight: float = 0.1, optimization=None) -> CpsStep:
    optimization = optimization or plain_optimization(network)
    return CpsStep(network=network, loss=DiceCE(), optimization=optimization, weight=Ramp(final=weight))


@pytest.mark.parametrize(("classes", "channels"), [(2, 1), (3, 2), (14, 1)])
def test_a_step_runs_for_any_number_of_classes_and_channels(classes: int, channels: int) -> None:
    network = _twins(classes=classes, channels=channels)
    output = _step(network)(bare_engine(network), small_batch(classes=classes, channels=channels))
    assert torch.isfinite(output["loss"])
    assert output["pred"].shape == (2, classes, 4, 6, 8)


def test_each_network_moves_by_its_own_loss_with_the_others_classes() -> None:
    network, start, batch = _twins(), _twins(), small_batch()
    _step(network, weight=0.4)(bare_engine(network), batch)
    crops = batch["unlabeled"]["image"]
    with torch.no_grad():
        classes = [part(crops).argmax(1) for part in (start.second, start.first)]
    for moved, part, labels in zip(network.independent_parts(), start.independent_parts(), classes, strict=True):
        loss = dice_ce(part(batch["image"]), batch["label"])
        (loss + 0.4 * torch.nn.functional.cross_entropy(part(crops), labels)).backward()
        for after, before in zip(moved.parameters(), part.parameters(), strict=True):
            assert torch.allclose(after, before - 0.1 * before.grad, atol=1e-6)


def test_exchanging_the_networks_exchanges_the_result() -> None:
    network, turned = _twins(), _twins()
    turned.first, turned.second = turned.second, turned.first
    losses = [
        _step(each, optimization=stand_in())(bare_engine(each), small_batch())["loss"] for each in (network, turned)
    ]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)


def test_without_unlabelled_crops_both_learn_from_labels() -> None:
    network = _twins()
    log = _step(network)(bare_engine(network), small_batch(unlabeled=0))["log"]
    assert log["consistency_loss"] == 0.0
    assert log["supervised_loss"] > 0.0


def test_a_single_network_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected a TwinNet, got SplitSegResNet"):
        CpsStep(network=small_network(), loss=DiceCE(), optimization=stand_in(), weight=Ramp(final=0.1))
