"""Make the bundles and the plan of the question "does co-training help a well-trained network?"

    .venv/bin/python tools/studies/cotraining_arms.py --data ../shared/data --out runs/cotraining
    .venv/bin/medssl study runs/cotraining/plan.json --manifest data_manifests/hippocampus.json \
        --data-root ../shared/data/hippocampus --out runs/cotraining

Every arm is bundles/hippocampus_mri_umct with the same SegResNet, crops, augmentation, loss and optimiser; they differ
in the step and in how many networks learn. All cost the same number of patches passed forward and back.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from medssl.bundle.catalog import find_bundle
from medssl.bundle.run import copy_bundle
from medssl.core.files import write_json

SOURCE = "hippocampus_mri_umct"
ABOUT = (
    "Does co-training help a network that is trained as well as labels alone allow? Primary contrast, fixed before any "
    "case was scored: co-training of three views (weighted by uncertainty) minus the ensemble of three supervised "
    "networks, at equal patches passed forward and back. Scored on the 30 development cases; last checkpoints."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", type=int, default=3000)
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    supervised = options.out / "arms" / "hippocampus_mri_supervised_segresnet"
    if not supervised.exists():
        make_supervised(supervised)
    splits = json.loads((options.data / "hippocampus" / "splits.json").read_text(encoding="utf-8"))
    write_json(options.out / "plan.json", plan(splits["labelled_draws"]["2"][: options.draws], options.budget))


def make_supervised(out: Path) -> None:
    """Write the same bundle with one view network that learns from labels alone."""
    copy_bundle(find_bundle(SOURCE), out)
    for name in ("train", "inference"):
        path = out / "configs" / f"{name}.json"
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        views = content["network_def"]
        component = {key: value for key, value in views["network"].items() if key != "_mode_"}
        content["network_def"] = component | {key: views[key] for key in ("in_channels", "out_channels")}
        if name == "train":
            del content["unlabeled"], content["unlabeled_datalist"], content["train"]["weight"]
            content["train"]["dataloader"].pop("unlabeled")
            step = {"_target_": "medssl.methods.supervised.SupervisedStep"}
            content["train"]["step"] = step | {"loss": "@train#loss", "optimization": "@train#optimization"}
        write_json(path, content)


def plan(draws: list[list[str]], budget: int) -> dict[str, Any]:
    """Return the plan; an iteration of a view passes 2 labelled patches, and in the second half 2 unlabelled ones."""
    supervised = {"bundle": "arms/hippocampus_mri_supervised_segresnet", "patches_per_iteration": 2}
    views = {"bundle": SOURCE, "patches_per_iteration": 9, "group": "ensemble"}
    return {
        "name": "Co-training against labels alone, hippocampus, 2 labelled cases",
        "about": ABOUT,
        "part": "validation",
        "draws": {"2": draws},
        "seeds": [0],
        "budget": budget,
        "baseline": "supervised",
        "ensemble_baseline": "supervised_three",
        "arms": [
            {"name": "supervised_three", "members": "supervised", "size": 3, "group": "ensemble"},
            {"name": "umct", **views},
            {"name": "supervised", **supervised},
            {"name": "cotraining", **views, "set": {"stochastic_passes": 0}},
            {"name": "views_supervised", **views, "patches_per_iteration": 6, "set": {"cotraining_weight": 0.0}},
        ],
    }


if __name__ == "__main__":
    main()
