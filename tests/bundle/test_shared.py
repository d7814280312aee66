"""What a training was told about network and input is written for the configurations that come after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medssl.bundle.shared import NETWORK, hand_on

_NETWORK = {"_target_": "UNet", "channels": [8, 16], "in_channels": 1, "out_channels": 3}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    shared = {"network_def": _NETWORK, "patch_size": [8, 8, 8]}
    for name, content in {"train": {**shared, "learning_rate": 0.1}, "inference": shared}.items():
        (tmp_path / "configs" / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def _inference(run: Path) -> dict[str, Any]:
    return json.loads((run / "configs" / "inference.json").read_text())


def test_only_network_and_input_are_handed_on(run: Path) -> None:
    hand_on(run, {"network_def#channels": [4], "network_def#strides": [2], "learning_rate": 0.5, "patch_size": [4] * 3})
    assert _inference(run) == {"network_def": {**_NETWORK, "channels": [4], "strides": [2]}, "patch_size": [4] * 3}


def test_only_the_wanted_keys_are_handed_on(run: Path) -> None:
    hand_on(run, {"network_def::channels": [4], "patch_size": [4, 4, 4]}, (NETWORK,))
    assert _inference(run) == {"network_def": {**_NETWORK, "channels": [4]}, "patch_size": [8, 8, 8]}


def test_what_a_configuration_lacks_is_not_added(run: Path) -> None:
    hand_on(run, {"resample_to_spacing": [2.0, 2.0, 2.0]})
    assert _inference(run) == {"network_def": _NETWORK, "patch_size": [8, 8, 8]}


def test_another_network_keeps_the_channels_of_the_data(run: Path) -> None:
    hand_on(run, {"network_def": {"_target_": "SegResNet", "in_channels": 1, "out_channels": "@output_classes"}})
    assert _inference(run)["network_def"] == {"_target_": "SegResNet", "in_channels": 1, "out_channels": 3}
