"""A run starts from the weights it was given, and says what it loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from monai.transforms import Compose, EnsureTyped
from training.small_run import small_run, weights_equal

from medssl.core.errors import CheckpointError, ConfigError
from medssl.core.files import sha256_file, write_json
from medssl.data.datasets import SeededCacheDataset
from medssl.networks import MultiViewNet, SliceNet, SliceUNet, ViewNet
from medssl.networks.pretrained import pretrained_tensors
from medssl.training import InitialWeights


def _given(tmp_path: Path) -> Path:
    torch.save(small_run(tmp_path / "source", seed=9).network.state_dict(), tmp_path / "given.pt")
    return tmp_path / "given.pt"


def test_weights_are_loaded_before_the_first_step_and_reported(tmp_path: Path) -> None:
    run = small_run(tmp_path, epochs=1)
    given = InitialWeights(path=str(_given(tmp_path)), network=run.network, report=str(tmp_path / "weights.json"))
    given.attach(run.trainer)
    seen = []
    run.trainer.add_event_handler(Events.EPOCH_STARTED, lambda engine: seen.append(_copy(run.network)))
    run.trainer.run()
    report = json.loads((tmp_path / "weights.json").read_text())
    assert weights_equal(seen[0], small_run(tmp_path / "again", seed=9).network)
    assert report["match"] == 1.0
    assert report["source"]["file"] == "given.pt"


def _copy(network):
    from copy import deepcopy

    return deepcopy(network)


def test_weights_of_another_network_stop_the_run(tmp_path: Path) -> None:
    torch.save({"other": torch.zeros(1)}, tmp_path / "other.pt")
    run = small_run(tmp_path, epochs=1)
    InitialWeights(path=str(tmp_path / "other.pt"), network=run.network).attach(run.trainer)
    with pytest.raises(CheckpointError, match="fill 0 of"):
        run.trainer.run()


def test_every_named_part_receives_the_whole_file(tmp_path: Path) -> None:
    parts = torch.nn.ModuleDict({name: torch.nn.Linear(2, 2) for name in ("axial", "coronal", "head")})
    source = torch.nn.Linear(2, 2)
    torch.save({f"encoder.{name}": value for name, value in source.state_dict().items()}, tmp_path / "part.pt")
    run = small_run(tmp_path, epochs=1)
    given = InitialWeights(
        path=str(tmp_path / "part.pt"),
        network=parts,
        report=str(tmp_path / "weights.json"),
        parts=["axial", "coronal"],
        strip_prefix="encoder.",
    )
    given.attach(run.trainer)
    run.trainer.run()
    assert torch.equal(parts["axial"].weight, source.weight)
    assert torch.equal(parts["coronal"].weight, source.weight)
    assert not torch.equal(parts["head"].weight, source.weight)
    assert json.loads((tmp_path / "weights.json").read_text())["loaded"][0] == "axial.weight"


def test_the_encoder_of_slices_starts_every_view(tmp_path: Path) -> None:
    # Batch normalisation in the file, instance normalisation here: its statistics have no place, and are not missed
    source = SliceNet(size="resnet18")
    torch.save(pretrained_tensors(source), tmp_path / "encoder.pt")
    content = {"sha256": sha256_file(tmp_path / "encoder.pt"), "stages": [{"stage": "slices"}]}
    write_json(tmp_path / "encoder.json", content)
    network = MultiViewNet(network=ViewNet, views=2)
    parts = ["networks.axial", "networks.coronal"]
    engine = Engine(lambda engine, batch: None)
    InitialWeights(path=str(tmp_path / "encoder.pt"), network=network, parts=parts).attach(engine)
    engine.run([0])
    for view in network.networks.values():
        assert torch.equal(view.layer4[1].conv2.weight[..., 0], source.layer4[1].conv2.weight)
        assert torch.equal(view.conv1.weight[..., 1], source.conv1.weight)
        assert torch.equal(view.bn1.weight, source.bn1.weight)


def test_statistics_are_recalibrated_to_the_images_and_nothing_else_changes(tmp_path: Path) -> None:
    network = SliceUNet(channels=(4, 8), norm="batch").train()
    items = [{"image": 5.0 + torch.randn(1, 8, 8, 1), "case_id": str(number)} for number in range(12)]
    data = SeededCacheDataset(items, Compose([EnsureTyped("image")]), num_workers=0)
    torch.save(network.state_dict(), tmp_path / "given.pt")
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    handler = InitialWeights(
        path=str(tmp_path / "given.pt"), network=network, statistics="recalibrate", data=data, minimum_match=0.5
    )
    handler.attach(engine := Engine(lambda engine, batch: None))
    engine.run([0])
    first = next(module for module in network.modules() if isinstance(module, torch.nn.modules.batchnorm._BatchNorm))
    convolution = next(m for m in network.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Conv3d))
    images = torch.stack([item["image"] for item in items])
    images = images if isinstance(convolution, torch.nn.Conv3d) else images[..., 0]
    with torch.no_grad():
        maps = [convolution(batch).transpose(0, 1).flatten(1) for batch in images.split(8)]
    assert torch.allclose(first.running_mean, torch.stack([each.mean(1) for each in maps]).mean(0), atol=1e-5)
    assert torch.allclose(first.running_var, torch.stack([each.var(1) for each in maps]).mean(0), atol=1e-5)
    assert (first.momentum, network.training) == (0.1, True)
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    after = network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if not name.endswith(statistics))


def test_recalibration_needs_images() -> None:
    with pytest.raises(ConfigError, match="expected data beside"):
        InitialWeights(path="any.pt", network=torch.nn.Linear(1, 1), statistics="recalibrate")
