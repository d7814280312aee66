"""What a training was told about network and input is written for the configurations that come after it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from medssl.bundle.config import merge_config
from medssl.bundle.inherit import NETWORK, write_inherited

_NETWORK = {"_target_": "UNet", "channels": [8, 16], "in_channels": 3, "out_channels": 3}
_TRAINING = {**_NETWORK, "in_channels": "@modalities", "out_channels": "@classes"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "configs").mkdir()
    train = {"modalities": 3, "classes": 3, "network_def": _TRAINING, "patch_size": [8, 8, 8], "learning_rate": 0.1}
    _write(tmp_path, "train", train)
    _write(tmp_path, "inference", {"network_def": _NETWORK, "patch_size": [8, 8, 8]})
    return tmp_path


def _write(run: Path, name: str, content: Any) -> None:
    (run / "configs" / f"{name}.json").write_text(json.dumps(content))


def _inherit(run: Path, overrides: dict[str, Any], *keys: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what train.json and inference.json are afterwards."""
    write_inherited(run, merge_config(run, ("train",), overrides), overrides, *([keys] if keys else []))
    train, inference = (json.loads((run / "configs" / f"{name}.json").read_text()) for name in ("train", "inference"))
    return train, inference


def test_network_and_input_are_inherited_and_nothing_else(run: Path) -> None:
    train, inference = _inherit(run, {"network_def#channels": [4], "learning_rate": 0.5, "patch_size": [4, 4, 4]})
    assert inference == {"network_def": {**_NETWORK, "channels": [4]}, "patch_size": [4, 4, 4]}
    assert train["network_def"] == {**_TRAINING, "channels": [4]}
    assert train["learning_rate"] == 0.1


def test_only_the_wanted_keys_are_inherited(run: Path) -> None:
    _, inference = _inherit(run, {"network_def#channels": [4], "patch_size": [4, 4, 4]}, NETWORK)
    assert inference == {"network_def": {**_NETWORK, "channels": [4]}, "patch_size": [8, 8, 8]}


def test_what_a_configuration_lacks_is_not_added(run: Path) -> None:
    _write(run, "inference", {"network_def": _NETWORK})
    assert _inherit(run, {"patch_size": [4, 4, 4]})[1] == {"network_def": _NETWORK}


def test_a_rate_that_the_network_refers_to_is_inherited(run: Path) -> None:
    network = {**_TRAINING, "dropout_rate": "@dropout_rate"}
    for name in ("train", "inference"):
        _write(run, name, {"modalities": 3, "classes": 3, "dropout_rate": 0.3, "network_def": network})
    assert _inherit(run, {"dropout_rate": 0.5})[1]["dropout_rate"] == 0.5


def test_items_of_lists_are_inherited(run: Path) -> None:
    train, inference = _inherit(run, {"patch_size#0": 4, "network_def#channels#1": 32})
    assert inference == {"network_def": {**_NETWORK, "channels": [8, 32]}, "patch_size": [4, 8, 8]}
    assert train["patch_size"] == [4, 8, 8]


def test_inference_takes_what_references_and_expressions_come_to(run: Path) -> None:
    network = {"_target_": "SegResNet", "in_channels": "@modalities", "out_channels": "$@classes + 1"}
    train, inference = _inherit(run, {"network_def": network, "patch_size": ["$2 * @classes", 8, 8]})
    assert inference["network_def"] == {"_target_": "SegResNet", "in_channels": 3, "out_channels": 4}
    assert inference["patch_size"] == [6, 8, 8]
    assert train["network_def"] == network


def test_the_network_of_each_view_is_inherited(run: Path) -> None:
    views = {"_target_": "MultiViewNet", "network": {"_target_": "ViewNet", "_mode_": "callable"}, "out_channels": 3}
    for name in ("train", "inference"):
        _write(run, name, {"classes": 3, "network_def": views})
    wanted = {"_target_": "CSwinUNet", "_mode_": "callable", "size": "tiny"}
    assert _inherit(run, {"network_def#network": wanted})[1]["network_def"] == {**views, "network": wanted}
