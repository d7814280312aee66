"""The probe of frozen features: votes of other volumes, balanced, without touching the network."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from ignite.engine import Engine, Events

from medssl.networks import SliceUNet
from medssl.training import NeighbourProbe
from medssl.training.probe import neighbour_accuracy, slabs


def test_features_that_tell_the_classes_are_scored_one() -> None:
    shown = torch.tensor([[0], [1]] * 6).bool()
    volumes = torch.arange(12) // 4
    features = torch.cat([shown.float() * 2 - 1, torch.randn(12, 1) * 0.1], dim=1)
    assert neighbour_accuracy(features, shown, volumes, neighbours=3) == 1.0
    assert neighbour_accuracy(torch.rand(12, 4), shown, volumes) < 1.0


def test_neighbours_of_the_own_volume_have_no_vote() -> None:
    shown = torch.tensor([[0], [0], [1], [1]]).bool()
    features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, 0.1]])
    assert neighbour_accuracy(features, shown, torch.tensor([0, 0, 1, 1]), neighbours=1) == 0.0


def test_where_other_volumes_have_few_slices_only_those_vote() -> None:
    shown = torch.tensor([[0], [0], [1], [1]]).bool()
    features = torch.tensor([[1.0, 0.0], [1.0, 0.1], [-1.0, 0.0], [-1.0, 0.1]])
    # Five neighbours are asked for and two are there; those of the own volume would turn the vote to one half
    assert neighbour_accuracy(features, shown, torch.tensor([0, 0, 1, 1])) == 0.0


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_labels_that_tell_no_slices_apart_end_no_training_and_log_no_nan(value: float, caplog) -> None:
    caplog.set_level(logging.INFO)
    items = [{**item, "label": torch.full_like(item["label"], value)} for item in _items(2)]
    assert not any(_run(NeighbourProbe(data=items, network=SliceUNet(channels=(4, 8)))))
    assert caplog.text.count("no class is shown by some slices") == 1


def test_classes_that_all_slices_show_tell_nothing() -> None:
    assert math.isnan(neighbour_accuracy(torch.rand(4, 2), torch.ones(4, 1).bool(), torch.arange(4)))


@pytest.mark.parametrize(("strides", "shape"), [((4, 4, 1), (5, 1, 12, 8, 1)), ((4, 4, 2), (3, 1, 12, 8, 2))])
def test_volumes_are_cut_into_slabs_of_the_networks_stride(strides, shape) -> None:
    volume = torch.rand(1, 10, 8, 5)
    found = slabs(volume, strides)
    assert found.shape == shape
    assert torch.equal(found[0, :, :10, :8, 0], volume[..., 0])


def _items(count: int) -> list[dict]:
    label = torch.zeros(1, 16, 16, 4)
    label[..., 2:] = 1
    return [{"image": label + 0.1 * torch.rand(1, 16, 16, 4), "label": label, "case_id": f"c{i}"} for i in range(count)]


def _run(probe: NeighbourProbe) -> list[dict]:
    engine, logs = Engine(lambda engine, batch: {"log": {}}), []
    probe.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: logs.append(e.state.output["log"]))
    engine.run([0, 0], max_epochs=2)
    return logs


def test_the_score_reaches_the_log_at_the_end_of_an_epoch_and_changes_nothing() -> None:
    network = SliceUNet(channels=(4, 8), norm="batch").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    logs = _run(NeighbourProbe(data=_items(3), network=network, every_epochs=2))
    assert [sorted(log) for log in logs] == [[], [], [], ["probe"]]
    assert 0.0 <= logs[3]["probe"] <= 1.0
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_without_labelled_volumes_there_is_no_probe(caplog) -> None:
    caplog.set_level(logging.INFO)
    assert not any(_run(NeighbourProbe(data=_items(1), network=SliceUNet(channels=(4, 8)))))
    assert "needs at least 2 labelled volumes" in caplog.text
