"""What is loaded into a network, what is not, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from medssl.core.errors import CheckpointError
from medssl.networks.weights import read_weights, transfer_weights


def _net(channels: int = 1, classes: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(channels, 4, 3), nn.Conv3d(4, 4, 3), nn.Conv3d(4, classes, 1))


def test_equal_networks_share_every_tensor() -> None:
    source, target = _net(), _net()
    report = transfer_weights(target, source.state_dict())
    assert len(report.loaded) == 6
    assert report.match == 1.0
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


def test_a_new_head_keeps_its_own_values_and_is_listed() -> None:
    source, target = _net(classes=2), _net(classes=5)
    head = target[2].weight.clone()
    report = transfer_weights(target, source.state_dict(), minimum_match=0.5)
    assert torch.equal(target[2].weight, head)
    assert report.skipped[0] == "2.weight: (2, 4, 1, 1, 1) in the file, (5, 4, 1, 1, 1) here"


def test_equal_channels_give_what_one_channel_gave() -> None:
    source, target = _net(channels=1), _net(channels=3)
    report = transfer_weights(target, source.state_dict())
    image = torch.randn(1, 1, 7, 7, 7)
    assert report.reshaped == ["0.weight"]
    assert torch.allclose(source(image), target(image.expand(-1, 3, -1, -1, -1)), atol=1e-5)


def test_too_few_matches_are_refused_and_change_nothing() -> None:
    target = _net()
    before = [parameter.clone() for parameter in target.parameters()]
    state = {f"module.{name}": tensor for name, tensor in _net().state_dict().items()}
    with pytest.raises(CheckpointError, match=r"fill 0 of 6 .* 'module\.0\.bias'"):
        transfer_weights(target, state)
    assert all(torch.equal(a, b) for a, b in zip(before, target.parameters(), strict=True))


def test_a_prefix_is_removed_on_reading(tmp_path: Path) -> None:
    torch.save({f"module.{n}": t for n, t in _net().state_dict().items()}, tmp_path / "model.pt")
    state = read_weights(tmp_path / "model.pt", strip_prefix="module.")
    assert transfer_weights(_net(), state).match == 1.0


class _Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_pickle_that_carries_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"weight": _Hostile(tmp_path / "was_run")}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="more than tensors"):
        read_weights(tmp_path / "model.pt")
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("content", [{"a": 1}, {}, [torch.zeros(1)]])
def test_files_that_are_no_state_dict_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"model\.pt"):
        read_weights(tmp_path / "model.pt")


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such weights file"):
        read_weights(tmp_path / "none.pt")
    (tmp_path / "half.pt").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(CheckpointError, match=r"half\.pt"):
        read_weights(tmp_path / "half.pt")
