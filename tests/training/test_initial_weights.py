"""A run starts from the weights it was given, and says what it loaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from training.small_run import small_run, weights_equal

from medssl.core.errors import CheckpointError
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
