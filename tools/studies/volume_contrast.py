"""What is pre-training by global and local contrast worth in 3D, alone and as the start of UMCT's views?

    .venv/bin/python tools/studies/volume_contrast.py --data ../shared/data --dataset hippocampus --out runs/volumes
    .venv/bin/medssl study runs/volumes/plan.json --manifest runs/volumes/manifest.json \
        --data-root runs/volumes --out runs/volumes

One SegResNet, from random weights, from G^D and from G^D + L^R; then UMCT, three views with such a network each, from
random weights and with every view started from G^D + L^R. Partitions are four cells along the long axis of what is
imaged: front to back in hippocampus, bottom to top in brains, whose structures are merged to five. Test cases are
scored by `--part test`, once.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cotraining_arms import supervised
from labelled_draws import labelled_draws
from same_options import require_same_options
from working_copy import working_copy

from medssl.bundle.catalog import find_bundle
from medssl.bundle.dataset_plan import Wishes
from medssl.bundle.prepare import prepare_bundle
from medssl.core.files import write_json
from medssl.data.manifest import load_manifest

SEGMENTING, PRETRAINING = "hippocampus_mri_umct", "cardiac_mri_global_local"
ABOUT = (
    "Primary contrasts, fixed before any case was scored: gd_lr minus supervised, and umct_gd_lr minus umct, paired by "
    "draw. One pre-training of each kind is shared by all draws; it is not part of the budget. Last checkpoints. An "
    "interval that holds 0 is undecided."
)
VIEWS = ("axial", "coronal", "sagittal")
Content = dict[str, Any]


@dataclass(frozen=True)
class Setting:
    """Voxel size (mm), patches of segmentation and of the global stage, cells along X, Y, Z."""

    spacing: tuple[float, float, float]
    patch: tuple[int, int, int]
    global_patch: tuple[int, int, int]
    cells: tuple[int, int, int]


# Coarse voxels, so that two cores carry the study; both sides of a pair pay for them alike
SETTINGS = {
    "hippocampus": Setting((1.5, 1.5, 1.5), (24, 32, 24), (24, 16, 24), (1, 4, 1)),
    "brains": Setting((4.0, 4.0, 4.0), (32, 32, 24), (32, 32, 16), (1, 1, 4)),
}
_CROP = 0.875  # share of each side that a view shows, as in the 2D form
_DECODER_BLOCKS = 2  # of three; the last belongs to the tail


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", choices=list(SETTINGS), default="hippocampus")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=["validation", "test"], default="validation")
    parser.add_argument("--labelled", nargs="+", default=["1", "2", "4"])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--budget", type=int, default=600, help="patches passed forward and back by each network")
    parser.add_argument("--learning-rate", type=float, help="of the segmentation; the bundle's if not given")
    parser.add_argument("--pretraining", type=int, default=200, help="iterations of each stage")
    options = parser.parse_args()
    require_same_options(options.out, options, may_change=("labelled", "draws"))
    setting = SETTINGS[options.dataset]
    working_copy(options.dataset, options.data, options.out)
    for name in ("one", "views"):
        make_bundle(options.out / "arms" / f"{options.dataset}_mri_{name}", options.out, setting)
    draws = labelled_draws(options.data, options.dataset, options.labelled, options.draws)
    write_json(options.out / "plan.json", plan(options, draws))


def make_bundle(folder: Path, data: Path, setting: Setting) -> None:
    """Adapt the co-trained bundle to the data, for all views or with one network, and add the stages in 3D."""
    if (folder / "configs" / "pretrain_local.json").is_file():  # the last one written
        return
    shutil.rmtree(folder, ignore_errors=True)
    manifest = load_manifest(data / "manifest.json")
    prepare_bundle(find_bundle(SEGMENTING), folder, manifest, data, wishes=Wishes(), settings={})
    train, inference = (folder / "configs" / f"{name}.json" for name in ("train", "inference"))
    content, deployed = _read(train), _read(inference)
    network = {key: value for key, value in content["network_def"]["network"].items() if key != "_mode_"}
    network["dropout_rate"] = content["dropout_rate"]  # the stages lack its id
    if folder.name.endswith("_one"):
        supervised(content)
        sizes = {key: deployed["network_def"][key] for key in ("in_channels", "out_channels")}
        deployed["network_def"] = content["network_def"] | sizes
    else:
        start = next(each for each in content["train"]["handlers"] if each["_target_"].endswith("InitialWeights"))
        start["parts"] = [f"networks.{view}" for view in VIEWS]
    for file, changed in ((train, content), (inference, deployed)):
        fixed = {"patch_size": list(setting.patch), "resample_to_spacing": list(setting.spacing)}
        write_json(file, changed | {key: value for key, value in fixed.items() if key in changed})
    for stage in ("pretrain_global", "pretrain_local"):
        made = in_3d(_read(find_bundle(PRETRAINING) / "configs" / f"{stage}.json"), network, setting)
        write_json(folder / "configs" / f"{stage}.json", made | {"output_classes": len(manifest.labels)})


def in_3d(content: Content, network: Content, setting: Setting) -> Content:
    """Return a stage of the slice bundle for patches of a volume, with the network that it starts."""
    is_global = "crop_size" in content
    patch = setting.global_patch if is_global else setting.patch
    content |= {
        "network_def": network | {"in_channels": 1, "out_channels": "@output_classes"},
        "patch_size": list(patch),
        "resample_to_spacing": list(setting.spacing),
        "cells": list(setting.cells),
        "num_workers": 0,
    }
    _normalise_as_training(content)
    if is_global:
        content["crop_size"] = [round(_CROP * side) for side in patch]
        content["embedder"] |= {"pool": "avg", "widths": [256, 128]}
        return content
    content["regions"] = {
        "_target_": "medssl.losses.region_masks.grid_regions",
        "map_size": "@map_size",
        "size": [3, 3, 3],
        "grid": [3, 3, 3],
    }
    return content | {"decoder_blocks": _DECODER_BLOCKS, "neighbours": 10, "foreground": None}


def _normalise_as_training(content: Content) -> None:
    """Give the images zero mean and unit variance, as the segmenting bundle does, instead of percentiles."""
    for group in (content["train"]["preprocessing"], content["train"]["views"], content["probe"]["preprocessing"]):
        kept = [each for each in group["transforms"] if each["_target_"] != "ScaleIntensityRanged"]
        for each in kept:
            if each["_target_"] == "ScaleIntensityRangePercentilesd":
                each.clear()
                each |= {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True}
        group["transforms"] = kept


def plan(options: argparse.Namespace, draws: dict[str, list[list[str]]]) -> Content:
    rate: Content = {} if options.learning_rate is None else {"set": {"learning_rate": options.learning_rate}}
    one: Content = {"bundle": f"arms/{options.dataset}_mri_one", "patches_per_iteration": 2} | rate
    # Two labelled patches by each of three views, and in the second half two unlabelled ones too; three networks get
    # three times the patches of one, and are compared with each other only
    views: Content = {
        "bundle": f"arms/{options.dataset}_mri_views",
        "patches_per_iteration": 9,
        "group": "ensemble",
        **rate,
    }
    views["budget"] = 3 * options.budget
    both = {"stages": ["pretrain_global", "pretrain_local"], "iterations": options.pretraining}
    return {
        "name": f"Global and local contrast in 3D on {options.dataset}",
        "about": ABOUT,
        "part": options.part,
        "draws": draws,
        "seeds": [0],
        "budget": options.budget,
        "baseline": "supervised",
        "ensemble_baseline": "umct",
        "arms": [
            {"name": "supervised", **one},
            {"name": "gd_lr", **one, "pretrain": both},
            {"name": "umct", **views},
            {"name": "umct_gd_lr", **views, "pretrain": both},
            {"name": "gd", **one, "pretrain": {**both, "stages": both["stages"][:1]}},
        ],
    }


def _read(path: Path) -> Content:
    content: Content = json.loads(path.read_text(encoding="utf-8"))
    return content


if __name__ == "__main__":
    main()
