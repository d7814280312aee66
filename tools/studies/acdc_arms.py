"""Make the bundles and the plan of the study of pre-training on ACDC.

    .venv/bin/python tools/studies/acdc_arms.py --data ../shared/data --out runs/acdc
    .venv/bin/medssl study runs/acdc/plan.json --manifest data_manifests/acdc.json \
        --data-root ../shared/data/acdc --out runs/acdc

The question: what is contrastive pre-training worth with 1, 2 (and 8) labelled patients? Arms: random weights, G^R,
G^D-, G^D, G^D + L^R, each fine-tuned alike; a masked autoencoder pre-trained for about as long as G^D + L^R; mean
teacher from random weights, given the time that the others spent on pre-training; Mixup for random and G^D + L^R.
The same command goes on where it stopped; `--only ARM` runs one arm.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from labelled_draws import labelled_draws
from same_options import require_same_options

from medssl.bundle.catalog import find_bundle
from medssl.bundle.run import copy_bundle
from medssl.core.files import write_json

SOURCE = "cardiac_mri_global_local"
ABOUT = (
    "Primary contrasts, fixed before any test case was scored: gd_lr minus random with 1 and with 2 labelled patients. "
    "Hypothesis: random < gr < gd < gd_lr, and at least 5 points of Dice between the ends. One pre-training of each "
    "kind is shared by all draws. Last checkpoints; every arm is fine-tuned on the same number of slices. Controls: "
    "masked_autoencoder, pre-trained for about as long as both stages of gd_lr together; mean_teacher from random "
    "weights, with what gd_lr spent on pre-training added to its budget. An interval that holds 0 is undecided."
)
Content = dict[str, Any]
CROP = 0.875  # of the side; with the published 0.52 the global stage learns nothing in short runs, see the results page
_PRETRAINING_SLICES = {"global": 24, "local": 20, "masked_autoencoder": 24}  # of one iteration
# What such a slice costs of one in fine-tuning: the global stage runs the encoder, the local one few blocks behind it
_SHARE_OF_PASS = {"global": 0.4, "local": 0.4, "masked_autoencoder": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--labelled", nargs="+", default=["1", "2"])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--pretraining", type=int, default=1000, help="iterations of each stage")
    parser.add_argument("--iterations", type=int, default=500, help="iterations of fine-tuning")
    parser.add_argument("--batch-size", type=int, default=20, help="slices of an iteration of fine-tuning")
    parser.add_argument("--part", choices=["validation", "test"], default="test", help="cases that are scored")
    parser.add_argument("--side", type=int, choices=[64, 128, 192], default=128, help="pixels of a slice")
    options = parser.parse_args()
    require_same_options(options.out, options, may_change=("labelled", "draws"))
    make_bundle(options.out / "arms" / SOURCE, options.side, options.batch_size)
    draws = labelled_draws(options.data, "acdc", options.labelled, options.draws)
    write_json(options.out / "plan.json", plan(draws, options))


def make_bundle(out: Path, side: int, batch_size: int) -> None:
    """Copy the bundle, set its slices and batches, and add the training of mean teacher."""
    if out.exists():
        return
    copy_bundle(find_bundle(SOURCE), out)
    for path in sorted((out / "configs").glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if "patch_size" in content:
            content |= {"patch_size": [side, side, 1], "resample_to_spacing": [192 / side, 192 / side, -1]}
        if "crop_size" in content:
            content["crop_size"] = [round(CROP * side), round(CROP * side), 1]
        write_json(path, content)
    training = json.loads((out / "configs" / "train.json").read_text(encoding="utf-8")) | {"batch_size": batch_size}
    write_json(out / "configs" / "train.json", training)
    write_json(
        out / "configs" / "train_mean_teacher.json", mean_teacher(training) | {"unlabeled_batch_size": batch_size}
    )


def mean_teacher(training: Content) -> Content:
    """Return what train.json is merged with: an unlabelled stream, and the running mean of the network as teacher.

    The teacher is what is deployed, as in the study of co-training.
    """
    images = json.loads(json.dumps(training["train"]["preprocessing"]))
    for transform in images["transforms"]:
        if isinstance(transform["keys"], list):
            transform["keys"] = ["image"]
            if isinstance(transform.get("mode"), list):
                transform["mode"] = transform["mode"][:1]
    self_training = json.loads(
        (find_bundle(SOURCE) / "configs" / "train_self_training.json").read_text(encoding="utf-8")
    )
    unlabeled = self_training["unlabeled"]
    unlabeled["dataset"]["transform"] = "@unlabeled#preprocessing"
    handlers = json.loads(json.dumps(training["train"]["handlers"]))
    for handler in handlers:
        if handler["_target_"].endswith("LastWeights"):
            handler["network"] = "@teacher_network"
        if handler["_target_"].endswith("ResumeHandler"):
            handler["parts"]["teacher"] = "@train#teacher"
    return {
        "unlabeled_datalist": {
            "_target_": "medssl.data.datasets.unlabeled_cases",
            "manifest": "@data_list_file_path",
            "data_root": "@dataset_dir",
        },
        "unlabeled": {"preprocessing": images, **unlabeled},
        "train#dataloader#unlabeled": "@unlabeled#dataloader",
        "teacher_network": training["network_def"],
        "train#teacher": {
            "_target_": "medssl.training.EmaTeacher",
            "teacher": "$@teacher_network.to(@device)",
            "student": "@network",
        },
        "train#weight": {
            "_target_": "medssl.training.Ramp",
            "final": 0.1,
            "length": "$@train#trainer#max_epochs * @iterations_per_epoch * 0.4",
        },
        "train#step": {
            "_target_": "medssl.methods.baselines.MeanTeacherStep",
            "loss": "@train#loss",
            "optimization": "@train#optimization",
            "teacher": "@train#teacher",
            "weight": "@train#weight",
            "seed": "@seed",
        },
        "train#handlers": handlers,
    }


def plan(draws: dict[str, list[list[str]]], options: argparse.Namespace) -> Content:
    """Return the plan, the arms of the primary contrasts first."""
    pretraining = options.pretraining
    budget = options.iterations * options.batch_size
    cost = {stage: slices * _SHARE_OF_PASS[stage] for stage, slices in _PRETRAINING_SLICES.items()}
    spent = round(pretraining * (cost["global"] + cost["local"]))
    random_slices = {
        "train#sampler": {
            "_target_": "medssl.training.StreamSampler",
            "data": "@train#dataset",
            "samples_per_epoch": "$@iterations_per_epoch * 12",
            "seed": "@seed",
        },
        "train#unlabeled_dataloader#batch_size": 12,
    }
    one, both = ["pretrain_global"], ["pretrain_global", "pretrain_local"]
    arms = [
        _arm("random"),
        _arm("gd_lr", stages=both, iterations=pretraining),
        _arm("gd", stages=one, iterations=pretraining),
        _arm("gr", stages=one, iterations=pretraining, changes={"strategy": "GR", **random_slices}),
        _arm(
            "gd_minus",
            stages=one,
            iterations=pretraining,
            changes={"strategy": "GDminus", "view_count": 3, "keep_original": True},
        ),
        _arm(
            "masked_autoencoder",
            stages=["masked_autoencoder"],
            iterations=round(spent / cost["masked_autoencoder"]),
        ),
        {
            **_arm("mean_teacher"),
            "config_files": ["train", "train_mean_teacher"],
            "patches_per_iteration": 2 * options.batch_size,
            "budget": budget + spent,
        },
        {**_arm("random_mixup"), "set": {"use_mixup": True}},
        {**_arm("gd_lr_mixup", stages=both, iterations=pretraining), "set": {"use_mixup": True}},
    ]
    return {
        "name": "Contrastive pre-training of global and local features on ACDC",
        "about": ABOUT,
        "part": options.part,
        "draws": draws,
        "seeds": [0],
        "budget": budget,
        "baseline": "random",
        "arms": [{"patches_per_iteration": options.batch_size, **arm} for arm in arms],
    }


def _arm(name: str, *, stages: list[str] | None = None, iterations: int = 0, changes: Content | None = None) -> Content:
    arm: Content = {"name": name, "bundle": f"arms/{SOURCE}"}
    if stages is not None:
        arm["pretrain"] = {"stages": stages, "iterations": iterations, "set": changes or {}}
    return arm


if __name__ == "__main__":
    main()
