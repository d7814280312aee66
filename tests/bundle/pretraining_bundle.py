"""A bundle with two stages of pre-training that take seconds: any step will do, so these learn from labels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

_NETWORK = {
    "_target_": "medssl.networks.SplitSegResNet",
    "out_channels": "@output_classes",
    "init_filters": 8,
    "blocks_down": [1, 1],
    "blocks_up": [1],
}


def write_pretraining_bundle(shipped: Path, folder: Path) -> Path:
    """Copy the supervised bundle without weights and give it pretrain_first.json and pretrain_second.json."""
    shutil.copytree(shipped / "hippocampus_mri_supervised", folder, ignore=shutil.ignore_patterns("*.pt"))
    path = folder / "configs" / "train.json"
    train = json.loads(path.read_text())
    train |= {"network_def": _NETWORK, "patch_size": [16, 16, 16], "epochs": 1, "iterations_per_epoch": 2}
    train |= {"amp": False, "num_workers": 0, "val_interval": 1}
    path.write_text(json.dumps(train))
    inference = json.loads((folder / "configs" / "inference.json").read_text())
    inference |= {"network_def": _NETWORK | {"out_channels": 3}, "patch_size": [16, 16, 16]}
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    for name in ("first", "second"):
        (folder / "configs" / f"pretrain_{name}.json").write_text(json.dumps(_stage(train, f"pretrain_{name}")))
    return folder


def _stage(train: dict, name: str) -> dict:
    stage = json.loads(json.dumps(train))
    del stage["validate"]
    stage["output_dir"] = f"$@bundle_root + '/results/{name}'"
    stage["resume_path"] = f"$@bundle_root + '/checkpoints/{name}.pt'"
    kept = [each for each in stage["train"]["handlers"] if each["_target_"].endswith(("TrainingLog", "ResumeHandler"))]
    kept[0]["evaluator"] = None
    kept[1]["parts"].pop("best")
    writer = {
        "_target_": "medssl.training.EncoderWeights",
        "path": "$@ckpt_dir + '/encoder.pt'",
        "network": "@network",
        "stage": name,
        "description": {"method": "stand-in", "input_axes": "RAS"},
        "manifest": "@data_list_file_path",
        "start_from": "$@ckpt_dir + '/encoder.pt'" if name == "pretrain_second" else None,
    }
    stage["train"]["handlers"] = [*kept, writer]
    return stage
