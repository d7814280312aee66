"""Does CSwin UNet learn as well as Swin UNETR and convolutional networks, and what is its pre-training worth?

    .venv/bin/python tools/studies/cswin_learning.py --data ../shared/data --dataset hippocampus --out runs/cswin
    .venv/bin/medssl study runs/cswin/few.json --manifest runs/cswin/manifest.json \
        --data-root runs/cswin --out runs/cswin/few_labels
    .venv/bin/medssl study runs/cswin/all.json --manifest runs/cswin/manifest.json \
        --data-root runs/cswin --out runs/cswin/all_labels

    PYTHONPATH=tools/bench .venv/bin/medssl study runs/cswin/variants.json --trust \
        --manifest runs/cswin/manifest.json --data-root runs/cswin --out runs/cswin/variants

The last compares CSwin UNets that differ from the one chosen in one point (tools/bench/cswin_variants.py), with the
decoder of Swin UNETR as the unmodified design. A point that makes it faster counts if it costs at most half a point.
`--family slabs` makes that plan, and no other, for the form for few thick slices: hippocampus as volumes of about 24
slices, or acdc, which was imaged so, in 6 to 14.

Every arm is bundles/hippocampus_mri_supervised with another network: the same crops, augmentation, loss, optimiser and
steps. One more arm starts CSwin UNet from its pre-training (rotation, inpainting, contrast) on all images of the
training part, without labels. Few labels: several draws, one seed. All labels: one draw, several seeds. On development
cases: `--part test` scores the test cases, once. The structures of brains are merged to five, and voxels are 3 mm.
`--rate NAME=VALUE` gives one network a learning rate of its own, which development cases have to have chosen.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from labelled_draws import labelled_draws
from same_options import require_same_options
from working_copy import working_copy

from medssl.bundle.catalog import find_bundle
from medssl.bundle.dataset_plan import Wishes
from medssl.bundle.prepare import prepare_bundle
from medssl.core.files import write_json
from medssl.data.manifest import load_manifest

SEGMENTING, PRETEXT = "hippocampus_mri_supervised", "prostate_mri_lesion_cswin_unet"
ABOUT = (
    "CSwin UNet against Swin UNETR, SegResNet and DynUNet at equal steps; last checkpoints. Aim: above Swin UNETR, and "
    "at most 1 point of Dice below the best convolutional network. An interval that holds 0 is undecided. "
)
_DYNUNET = {
    "kernel_size": [3, 3, 3, 3],
    "strides": [1, 2, 2, 2],
    "upsample_kernel_size": [2, 2, 2],
    "filters": [16, 32, 64, 128],
    "norm_name": ["INSTANCE", {"affine": True}],
}
NETWORKS: dict[str, dict[str, Any]] = {
    "cswin": {"_target_": "medssl.networks.CSwinUNet", "size": "tiny", "dropout_rate": 0.0},
    "swin_unetr": {"_target_": "SwinUNETR", "feature_size": 12, "spatial_dims": 3},
    "segresnet": {"_target_": "SegResNet", "spatial_dims": 3, "init_filters": 16},
    "dynunet": {"_target_": "DynUNet", "spatial_dims": 3, **_DYNUNET},
}
# Of tools/bench/cswin_variants.py; the cheaper points of the one chosen are what these undo, alone and together
VARIANTS = {
    "lines": (
        "unmodified",
        "lines",
        "usual_slope",
        "thin_stripes",
        "lines_twelve",
        "lines_small_start",
        "lines_single_skip",
        "lines_added",
        "lines_added_single",
    ),
    "slabs": (
        "slabs_unmodified",
        "slabs",
        "slabs_of_20",
        "slabs_of_4",
        "slabs_usual_slope",
        "slabs_twelve",
        "slabs_of_20_twelve",
        "slabs_of_4_twelve",
        "slabs_of_20_twelve_sixteen",
        "slabs_flat_twelve",
        "slabs_flatter_twelve",
        "slabs_small_start",
        "slabs_single_skip",
        "slabs_added",
    ),
}
# Sides are multiples of 32, which Swin UNETR needs; about the size of the whole image
PATCHES = {
    "lines": {"hippocampus": [32, 64, 32], "brains": [64, 64, 32]},
    "slabs": {"hippocampus": [32, 64, 24], "brains": [64, 64, 24], "acdc": [96, 96, 8]},
}
SPACINGS = {
    "lines": {"hippocampus": [1.0, 1.0, 1.0], "brains": [3.0, 3.0, 3.0]},
    # acdc kept no spacing: 1.5 is 128 pixels, and slices are thicker than pixels are wide many times over
    "slabs": {"hippocampus": [1.0, 1.0, 1.5], "brains": [3.0, 3.0, 6.0], "acdc": [1.5, 1.5, -1.0]},
}
COUNTS = {"hippocampus": "4", "brains": "2", "acdc": "8"}
_BATCH = 2  # contrast needs a second volume; convolutions of one small volume take a slow path of torch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", choices=list(COUNTS), default="hippocampus")
    parser.add_argument("--family", choices=list(VARIANTS), default="lines")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=["validation", "test"], default="validation")
    parser.add_argument("--repeats", type=int, default=3, help="Draws of few labels, seeds of all.")
    parser.add_argument("--seeds", type=int, default=1, help="Seeds of each draw in the plan of variants.")
    parser.add_argument("--steps", type=int, default=300, help="Optimiser steps of every arm.")
    parser.add_argument("--pretraining", type=int, default=500, help="Optimiser steps of pre-training.")
    parser.add_argument("--learning-rate", type=float, default=0.002)
    parser.add_argument("--rate", type=own_rate, action="append", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    options.rate = dict(options.rate)
    if options.dataset not in PATCHES[options.family]:
        parser.error(f"--dataset {options.dataset} is for --family slabs")
    require_same_options(options.out, options, may_change=("repeats", "seeds"))
    out = options.out
    working_copy(options.dataset, options.data, out)
    few = labelled_draws(options.data, options.dataset, [COUNTS[options.dataset]], options.repeats)
    variants = VARIANTS[options.family]
    networks = {name: {"_target_": f"cswin_variants.{name}", "dropout_rate": 0.0} for name in variants}
    if options.family == "lines":
        networks |= NETWORKS
        write_comparison(few, options)
    for name, network in networks.items():
        make_arm(out, name, network, options)
    write_json(out / "variants.json", plan(options, few, list(map(arm, variants)), seeds=options.seeds))


def own_rate(text: str) -> tuple[str, float]:
    """Read the learning rate of one network."""
    name, _, value = text.partition("=")
    if name not in NETWORKS:
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE with one of {', '.join(NETWORKS)}, found {text!r}")
    return name, float(value)


def write_comparison(few: dict[str, list[list[str]]], options: argparse.Namespace) -> None:
    """Write the plans that compare architectures, with few labels and with all."""
    everything = load_manifest(options.out / "manifest.json").training
    every = {str(len(everything)): [[case.id for case in everything]]}
    started = {"name": "cswin_pretext", "pretrain": {"stages": ["pretrain"], "iterations": options.pretraining}}
    arms = [*map(arm, NETWORKS), arm("cswin") | started]
    write_json(options.out / "few.json", plan(options, few, arms, seeds=1))
    write_json(options.out / "all.json", plan(options, every, arms, seeds=options.repeats))


def make_arm(out: Path, name: str, network: dict[str, Any], options: argparse.Namespace) -> None:
    """Make a segmenting bundle of the data set with another network, and for CSwin UNet its pre-training."""
    folder = out / "arms" / f"arm_{name}"
    manifest = load_manifest(out / "manifest.json")
    prepare_bundle(find_bundle(SEGMENTING), folder, manifest, out, wishes=Wishes(), settings={})
    fixed = {
        "patch_size": PATCHES[options.family][options.dataset],
        "resample_to_spacing": SPACINGS[options.family][options.dataset],
        "learning_rate": options.rate.get(name, options.learning_rate),
        "batch_size": _BATCH,
        "num_workers": 0,  # runs go side by side, for which loaders of their own would be too many processes
    }
    classes = len(manifest.labels)
    for config in ("train", "inference"):
        path = folder / "configs" / f"{config}.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        content["network_def"] = network | {"in_channels": 1, "out_channels": classes}
        content |= {key: value for key, value in fixed.items() if key in content}
        write_json(path, content)
    if name == "cswin":
        write_json(folder / "configs" / "pretrain.json", pretext(network, classes, fixed))


def pretext(network: dict[str, Any], classes: int, fixed: dict[str, Any]) -> dict[str, Any]:
    """Return the pre-training of the prostate bundle for isotropic volumes of one channel."""
    path = find_bundle(PRETEXT) / "configs" / "pretrain.json"
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    content |= {key: fixed[key] for key in ("resample_to_spacing", "batch_size", "num_workers")}
    x, y, z = fixed["patch_size"]
    content["patch_size"] = [min(x, y), min(x, y), z]  # quarter turns need a square
    content |= {"output_classes": classes, "decoder_blocks": 3}
    content |= {"intensity_mean": [None], "intensity_deviation": [None]}
    content["network_def"] = network | {"in_channels": 1, "out_channels": "@output_classes"}
    content["heads"]["in_channels"] = 1
    return content


def arm(name: str) -> dict[str, Any]:
    return {"name": name, "bundle": f"arms/arm_{name}", "patches_per_iteration": _BATCH}


def plan(
    options: argparse.Namespace, draws: dict[str, list[list[str]]], arms: list[dict[str, Any]], *, seeds: int
) -> dict[str, Any]:
    return {
        "name": f"CSwin UNet on {options.dataset}",
        "about": f"{ABOUT}{options.steps} steps of {_BATCH} patches of {PATCHES[options.family][options.dataset]}.",
        "part": options.part,
        "draws": draws,
        "seeds": list(range(seeds)),
        "budget": options.steps * _BATCH,
        "baseline": next((each["name"] for each in arms if "unmodified" in each["name"]), "cswin"),
        "arms": arms,
    }


if __name__ == "__main__":
    main()
