"""encoder.pt and its JSON: what is saved, and that the two belong together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from phantoms import write_phantoms

from medssl.core.errors import CheckpointError, ConfigError
from medssl.data.datasets import image_cases
from medssl.data.manifest import load_manifest
from medssl.networks import SplitSegResNet
from medssl.training import EncoderWeights, InitialWeights
from medssl.training.encoder_weights import read_encoder_json, saw_cases


def _network() -> SplitSegResNet:
    return SplitSegResNet(init_filters=8, blocks_down=(1, 1, 1), blocks_up=(1, 1))


def _save(folder: Path, network: torch.nn.Module, stage: str = "first", **options) -> Path:
    manifest = write_phantoms(folder / "data", training=1, validation=0)
    path = folder / "models" / "encoder.pt"
    options = {"description": {"method": "any"}, "manifest": str(manifest), **options}
    engine = Engine(lambda engine, batch: {})
    EncoderWeights(path=str(path), network=network, stage=stage, **options).attach(engine)
    engine.run([0])
    return path


def test_trained_decoder_blocks_are_saved_under_the_networks_names(tmp_path: Path) -> None:
    network = _network()
    path = _save(tmp_path, network, decoder_blocks=1)
    state = torch.load(path, weights_only=True)
    assert {name.split(".")[0] for name in state} == {"convInit", "down_layers", "up_samples", "up_layers"}
    assert not any(name.startswith(("up_layers.1", "up_samples.1", "conv_final")) for name in state)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in state.items())


def test_decoder_blocks_that_were_frozen_are_not_saved(tmp_path: Path) -> None:
    network = _network()
    for module in network.decoder_modules(2):
        module.requires_grad_(requires_grad=False)
    for module in network.decoder_modules(1):
        module.requires_grad_(requires_grad=True)
    path = _save(tmp_path, network, decoder_blocks=2)
    assert read_encoder_json(path)["decoder_blocks"] == 1
    assert not any(name.startswith(("up_layers.1", "up_samples.1")) for name in torch.load(path, weights_only=True))
    network.requires_grad_(requires_grad=False)
    assert read_encoder_json(_save(tmp_path, network, decoder_blocks=2))["decoder_blocks"] == 0
    # Loaded from an earlier stage they are not random
    again = _save(tmp_path / "b", network, "second", decoder_blocks=2, start_from=str(path))
    assert read_encoder_json(again)["stages"][-1]["decoder_blocks"] == 2


def test_weights_tell_which_cases_they_saw(tmp_path: Path) -> None:
    manifest = write_phantoms(tmp_path / "cases", training=3, validation=0)
    learnt = image_cases(manifest=str(manifest))[:2]
    encoder = read_encoder_json(_save(tmp_path, _network(), cases=learnt))
    cases = load_manifest(manifest).training
    assert [saw_cases(encoder, [case], "any") for case in cases] == [True, True, False]
    assert not any(case.id in json.dumps(encoder["stages"][0]["cases"]) for case in cases)


def test_weights_that_name_no_cases_are_known_by_their_manifest(tmp_path: Path) -> None:
    encoder = read_encoder_json(_save(tmp_path, _network()))
    dataset = load_manifest(tmp_path / "data" / "manifest.json")
    assert saw_cases(encoder, dataset.training, dataset.sha256())
    assert not saw_cases(encoder, dataset.training, "another")


def test_a_later_stage_continues_the_list_and_replaces_its_own_entry(tmp_path: Path) -> None:
    for stage in ("first", "second", "second"):
        start = str(tmp_path / "models" / "encoder.pt") if stage == "second" else None
        path = _save(tmp_path, _network(), stage, start_from=start)
    content = read_encoder_json(path)
    assert [each["stage"] for each in content["stages"]] == ["first", "second"]
    assert content["tensors"] == len(torch.load(path, weights_only=True))


def test_a_stage_that_started_from_another_file_lists_what_made_that_one(tmp_path: Path) -> None:
    start = _save(tmp_path / "other", _network(), "first")
    path = _save(tmp_path / "own", _network(), "second", start_from=str(start))
    assert [each["stage"] for each in read_encoder_json(path)["stages"]] == ["first", "second"]


def test_a_stage_that_started_anew_names_no_other(tmp_path: Path) -> None:
    for stage in ("swav", "moco"):
        path = _save(tmp_path, _network(), stage)
    assert [each["stage"] for each in read_encoder_json(path)["stages"]] == ["moco"]


def test_weights_and_json_of_different_trainings_are_refused(tmp_path: Path) -> None:
    path = _save(tmp_path, _network())
    torch.save(_network().state_dict(), path)
    with pytest.raises(CheckpointError, match="Keep the two files"):
        read_encoder_json(path)


def test_a_json_beside_other_weights_is_none_of_an_encoder(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text(json.dumps({"about": "something else"}))
    assert read_encoder_json(tmp_path / "model.pt") is None


def test_a_network_that_does_not_name_its_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="encoder_modules"):
        _save(tmp_path, torch.nn.Linear(1, 1))


def test_more_decoder_blocks_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected 0 to 2"):
        _save(tmp_path, _network(), decoder_blocks=3)


def test_statistics_of_batch_normalisation_can_be_left_behind(tmp_path: Path) -> None:
    networks = [SplitSegResNet(init_filters=8, blocks_down=(1, 1), blocks_up=(1,), norm="batch") for _ in range(3)]
    networks[0](torch.rand(2, 1, 8, 8, 8))
    path = _save(tmp_path, networks[0])
    for network, statistics in zip(networks[1:], ("carry", "reset"), strict=True):
        engine = Engine(lambda engine, batch: {})
        InitialWeights(path=str(path), network=network, statistics=statistics).attach(engine)
        engine.run([0])
    means = [network.down_layers[0][1].norm1.running_mean for network in networks]
    assert torch.equal(means[0], means[1])
    assert not means[2].any()
