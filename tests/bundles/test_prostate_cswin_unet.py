"""The prostate bundle on phantoms: exact resume of its pre-training, tasks that are off, folds left out, options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from phantoms import write_phantoms
from stops import stop_in_call

from medssl.bundle.config import has_item, read_json
from medssl.bundle.predictor import load_predictor
from medssl.bundle.pretrain import pretrain
from medssl.bundle.run import train
from medssl.data.manifest import load_manifest, save_manifest
from medssl.methods.cswin_pretext import PretextStep
from medssl.training.encoder_weights import saw_cases

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "prostate_mri_lesion_cswin_unet"
_QUICK: dict[str, Any] = {"epochs": 3, "iterations_per_epoch": 1, "batch_size": 2, "amp": False, "num_workers": 0}
_QUICK |= {"patch_size": [32, 32, 8], "resample_to_spacing": [1.0, 1.0, 3.0], "health_interval": 2}
_SHORT = _QUICK | {"epochs": 1}
_TRAIN = {key: value for key, value in _SHORT.items() if key != "health_interval"}
_OF_THE_NETWORK = ("stripes", "slab_depth", "deep_supervision")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = write_phantoms(tmp_path_factory.mktemp("data"), training=3, validation=0, channels=3)
    content = load_manifest(path)
    folded = tuple(case.model_copy(update={"fold": number % 2}) for number, case in enumerate(content.training))
    save_manifest(path, content.model_copy(update={"training": folded}))
    return path


def _encoder(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "models" / "encoder.pt", weights_only=True)


def test_a_stop_changes_nothing(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrain(BUNDLE, manifest=manifest, out=tmp_path / "undisturbed", overrides=_QUICK)
    calls = stop_in_call(monkeypatch, PretextStep, 2)
    with pytest.raises(SystemExit):
        pretrain(BUNDLE, manifest=manifest, out=tmp_path / "run", overrides=_QUICK)
    pretrain(BUNDLE, manifest=manifest, out=tmp_path / "run", overrides=_QUICK)
    assert calls == [1, 2, 3]
    first, second = _encoder(tmp_path / "undisturbed"), _encoder(tmp_path / "run")
    assert first.keys() == second.keys()
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert any(name.startswith("blocks.3.") for name in first)


@pytest.mark.parametrize("change", [{"task_weights": [1, 1, 0]}, {"heads#decoder": "light"}])
def test_decoder_blocks_that_no_task_trains_are_not_saved(manifest: Path, tmp_path: Path, change: dict) -> None:
    pretrain(BUNDLE, manifest=manifest, out=tmp_path / "run", overrides=_SHORT | change)
    assert not any(name.startswith(("up.", "blocks.")) for name in _encoder(tmp_path / "run"))
    assert read_json(tmp_path / "run" / "models" / "encoder.json")["decoder_blocks"] == 0


def test_a_weight_of_zero_removes_the_head_and_a_fold_can_be_left_out(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step, nets = PretextStep.__call__, []
    monkeypatch.setattr(
        PretextStep, "__call__", lambda self, engine, batch: nets.append(engine.network) or step(self, engine, batch)
    )
    changes = {"task_weights": [0, 0, 1], "exclude_fold": 1, "network_def#stripes": [1, 2, 2, 0]}
    pretrain(BUNDLE, manifest=manifest, out=tmp_path / "run", overrides=_SHORT | changes)
    assert nets[0].turns is None
    assert nets[0].projection is None
    encoder = json.loads((tmp_path / "run" / "models" / "encoder.json").read_text())
    cases = load_manifest(manifest).training
    assert [saw_cases(encoder, [case], "any") for case in cases] == [case.fold != 1 for case in cases]
    for name in ("train", "inference"):
        assert read_json(tmp_path / "run" / "configs" / f"{name}.json")["network_def"]["stripes"] == [1, 2, 2, 0]


def test_a_network_trained_with_deep_supervision_predicts(manifest: Path, tmp_path: Path) -> None:
    options = {"network_def#deep_supervision": True, "network_def#out_channels": 3, "select_best": False}
    train(BUNDLE, manifest=manifest, out=tmp_path / "run", overrides=_TRAIN | options)
    state = torch.load(tmp_path / "run" / "models" / "model.pt", weights_only=True)
    assert any(name.startswith("side_heads.") for name in state)
    with load_predictor(tmp_path / "run", device="cpu"):  # every tensor has found its place
        pass


@pytest.mark.parametrize(
    ("name", "ids"),
    [
        ("train", ["network_def#checkpoint_blocks", "train#loss#alpha"]),
        (
            "pretrain",
            [
                "network_def#checkpoint_blocks",
                "train#step#masked_only",
                "train#step#shared_blocks",
                "heads#rotation",
                "heads#width",
            ],
        ),
        ("inference", []),
    ],
)
def test_options_can_be_set(name: str, ids: list[str]) -> None:
    content = read_json(BUNDLE / "configs" / f"{name}.json")
    for item_id in [*ids, *(f"network_def#{option}" for option in _OF_THE_NETWORK)]:
        assert has_item(content, item_id), item_id
