"""Does reduction help pre-training? Pre-train on all, every n-th and HASH-6 slices, then segment with few labels.

    .venv/bin/python tools/studies/reduced_pretraining.py --data DATA --dataset brains --out runs/reduced_brains

DATA holds brains/ and acdc/. One method, one number of optimiser steps for all arms; every_n keeps as many slices of
each volume as HASH-6. The encoder's 2D kernels start the encoder of a segmentation network (`ViewNet`, one view);
another arm starts at random. Slices come from the training volumes alone, whose labels pre-training does not read. The
settings of pre-training were chosen by its own loss and RankMe, never by Dice, so the test cases are scored once. The
same command goes on after a stop. It ends with `medssl study`: Dice of each arm and paired differences over draws.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

from labelled_draws import labelled_draws
from same_options import require_same_options
from short_pretraining import pretrain_slices
from working_copy import merge_labels

from medssl.bundle.catalog import find_bundle
from medssl.bundle.dataset_plan import Wishes
from medssl.bundle.prepare import prepare_bundle
from medssl.cli.main import run as medssl
from medssl.core.files import sha256_file, write_json
from medssl.data.manifest import Manifest, load_manifest
from medssl.reduction.audit import save_reduced
from medssl.reduction.reduce import reduce_manifest
from medssl.reduction.settings import Settings

SEGMENTING = "hippocampus_mri_supervised"
REDUCTIONS = ("all", "every_n", "hash6")
ARMS = (*REDUCTIONS, "random")
# Whole axial planes at the scale of pre-training: coarse, so that two cores carry the study
WORKING: dict[str, dict[str, Any]] = {
    "brains": {
        "resample_to_spacing": [3.0, 3.0, 3.0],
        "patch_size": [64, 80, 16],
        "learning_rate": 0.004,
        "batch_size": 1,
    },
    "acdc": {"resample_to_spacing": [3.0, 3.0, -1], "patch_size": [64, 64, 8], "learning_rate": 0.004, "batch_size": 1},
}
PRIMARY = "Primary contrast, fixed before any case was scored: hash6 minus every_n, at equal optimiser steps."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", choices=["brains", "acdc"], default="brains")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stage", choices=["pretrain", "moco"], default="moco", help="SwAV or MoCo v2.")
    parser.add_argument("--size", default="tiny", help="Network: tiny, resnet18 or resnet50.")
    parser.add_argument("--steps", type=int, default=500, help="Optimiser steps of pre-training.")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=64, help="Pixels of a crop.")
    parser.add_argument("--labelled", nargs="+", default=["2"])
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--budget", type=int, default=300, help="Patches of each fine-tuning.")
    parser.add_argument("--pretrain-only", action="store_true")
    options = parser.parse_args()
    require_same_options(options.out, options, may_change=("labelled", "draws", "pretrain_only"))
    out, dataset = options.out, Path("data_manifests") / f"{options.dataset}.json"
    root = options.data / options.dataset
    if options.dataset == "brains":
        dataset, root = merge_labels(dataset, root.resolve(), out / "merged")
    manifest = load_manifest(dataset)
    kept = reduce_all(manifest, root, out)
    encoders = {name: make_encoder(name, root, options) for name in REDUCTIONS}
    make_arms(out, encoders, manifest, root, options)
    write_json(out / "plan.json", plan(options, kept, encoders))
    print(json.dumps(kept), flush=True)
    if not options.pretrain_only:
        words = ["study", str(out / "plan.json"), "--manifest", str(dataset)]
        words += ["--data-root", str(root), "--out", str(out)]
        raise SystemExit(medssl(words))


def reduce_all(manifest: Manifest, root: Path, out: Path) -> dict[str, int]:
    """Write a reduced manifest for each arm; labels and held-out cases stay behind. Return how many slices are kept."""
    bare = tuple(case.model_copy(update={"label": None}) for case in (*manifest.training, *manifest.unlabeled))
    slices = manifest.model_copy(update={"training": (), "validation": (), "test": (), "unlabeled": bare})
    counts, budgets = {}, None
    for name in ("hash6", "all", "every_n"):  # every_n keeps as many of each volume as HASH-6
        method = {"hash6": "dhash"}.get(name, name)
        settings = Settings(method=method, budget="given" if name == "every_n" else None)
        audit = reduce_manifest(slices, root, settings, budgets=budgets if name == "every_n" else None, workers=0).audit
        save_reduced(out / f"{name}.json", slices, audit)
        found = audit.counts()
        counts[name] = found["kept"]
        if name == "hash6":
            budgets = {case: row["kept"] for case, row in found["cases"].items()}
    return counts


def make_encoder(name: str, root: Path, options: argparse.Namespace) -> Path:
    """Pre-train on the slices of an arm and return the encoder; all arms take the same number of steps."""
    folder = options.out / "pretraining" / name
    manifest = options.out / f"{name}.json"
    pretrain_slices(folder, manifest, root, options.steps, options, orientation="RA")
    return folder / "models" / "encoder.pt"


def make_arms(
    out: Path, encoders: dict[str, Path], manifest: Manifest, root: Path, options: argparse.Namespace
) -> None:
    """Make a segmenting bundle of the data set for each encoder, and one that starts at random."""
    for name in ARMS:
        folder = out / "arms" / f"arm_{name}"
        prepare_bundle(find_bundle(SEGMENTING), folder, manifest, root, wishes=Wishes(), settings={})
        for config in ("train", "inference"):
            path = folder / "configs" / f"{config}.json"
            content = json.loads(path.read_text(encoding="utf-8"))
            classes = content["network_def"]["out_channels"]
            view = {"_target_": "medssl.networks.ViewNet", "in_channels": 1, "out_channels": classes}
            content["network_def"] = {**view, "size": options.size, "dropout_rate": 0.0}
            content |= {key: value for key, value in WORKING[options.dataset].items() if key in content}
            if config == "train":
                start = next(h for h in content["train"]["handlers"] if h["_target_"].endswith("InitialWeights"))
                start["statistics"] = "reset"  # the view network normalises by instance
            write_json(path, content)
        for file in (encoders[name], encoders[name].with_suffix(".json")) if name in encoders else ():
            shutil.copy2(file, folder / "models" / file.name)


def plan(options: argparse.Namespace, kept: dict[str, int], encoders: dict[str, Path]) -> dict[str, Any]:
    made = ", ".join(f"{name} {kept[name]} slices ({sha256_file(file)[:8]})" for name, file in encoders.items())
    about = (
        f"{PRIMARY} {options.dataset}, {options.stage}, {options.size}, {options.steps} steps of {options.batch} "
        f"slices at {options.side} x {options.side}; pre-trained on {made}. Whether reduction helps is a question."
    )
    arms = [{"name": name, "bundle": f"arms/arm_{name}", "patches_per_iteration": 1} for name in ARMS]
    return {
        "name": f"Reduction before pre-training: {options.dataset}",
        "about": about,
        "part": "test",
        "draws": labelled_draws(options.data, options.dataset, options.labelled, options.draws),
        "seeds": [0],
        "budget": options.budget,
        "baseline": "every_n",
        "arms": arms,
    }


if __name__ == "__main__":
    main()
