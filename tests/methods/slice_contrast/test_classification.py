"""The classification step: its loss, and an encoder that learns only after the frozen epochs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from methods.slice_contrast.small_slices import bare_engine, plain_optimization
from monai.engines.utils import default_prepare_batch
from torch.nn.functional import cross_entropy

from medssl.methods.slice_contrast import ClassificationStep
from medssl.networks import SliceNet


def _engine(network: SliceNet, epoch: int) -> Any:
    engine = bare_engine(iteration=epoch)
    engine.network, engine.inferer = network, lambda image, network: network(image)
    engine.prepare_batch, engine.to_kwargs = default_prepare_batch, {}
    engine.state.epoch = epoch
    return engine


def _network() -> SliceNet:
    torch.manual_seed(0)
    return SliceNet(size="tiny")


def _batch() -> dict[str, Any]:
    image = torch.rand(4, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    return {"image": image, "label": torch.tensor([0, 1, 1, 0]), "case_id": list("abcd")}


def _step(network: SliceNet, frozen: int) -> ClassificationStep:
    optimization = plain_optimization(network)
    return ClassificationStep(network=network, loss=cross_entropy, optimization=optimization, frozen_epochs=frozen)


def test_the_loss_is_the_cross_entropy_of_the_batch() -> None:
    network, same = _network(), _network()
    output = _step(network, 0)(_engine(network, 1), _batch())
    expected = cross_entropy(same.train()(_batch()["image"]), _batch()["label"])
    assert float(output["loss"]) == pytest.approx(float(expected))


def test_a_frozen_encoder_keeps_weights_and_statistics_while_the_head_learns() -> None:
    network, before = _network(), _network().state_dict()
    step = _step(network, 1)
    step(_engine(network, 1), _batch())
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {"fc.weight", "fc.bias"}
    step(_engine(network, 2), _batch())
    moved = {name for name, tensor in network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert {"conv1.weight", "layer4.1.bn2.running_mean"} <= moved
