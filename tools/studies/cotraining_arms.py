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
from collections.abc import Callable
from pathlib import Path
from typing import Any

from medssl.bundle.catalog import find_bundle
from medssl.bundle.run import copy_bundle
from medssl.core.files import write_json

SOURCE = "hippocampus_mri_umct"
ABOUT = (
    "Does co-training help a network that is trained as well as labels alone allow? Primary contrast, fixed before any "
    "case was scored: co-training of three views (weighted by uncertainty) minus the ensemble of three supervised "
    "networks, at equal patches passed forward and back. Scored on the development cases; last checkpoints; of mean "
    "teacher and UA-MT the teacher, of CPS both networks fused."
)
Content = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dataset", choices=["hippocampus", "brains"], default="hippocampus")
    parser.add_argument("--labelled", nargs="+", default=["2"])
    parser.add_argument("--budget", type=int, default=4500)
    parser.add_argument("--draws", type=int, default=3)
    options = parser.parse_args()
    for name, change in {"supervised": supervised, "mean_teacher": mean_teacher, "ua_mt": ua_mt, "cps": cps}.items():
        make_arm(options.out / "arms" / f"hippocampus_mri_{name}", change)
    splits = json.loads((options.data / options.dataset / "splits.json").read_text(encoding="utf-8"))
    draws = {count: splits["labelled_draws"][count][: options.draws] for count in options.labelled}
    write_json(options.out / "plan.json", plan(options.dataset, draws, options.budget))


def make_arm(out: Path, change: Callable[[Content], None]) -> None:
    """Copy the co-trained bundle and give its training another step; one view's network instead of all."""
    if out.exists():
        return
    copy_bundle(find_bundle(SOURCE), out)
    train, inference = (out / "configs" / f"{name}.json" for name in ("train", "inference"))
    content, deployed = _read(train), _read(inference)
    content["network_def"] = _one_network(content["network_def"])
    del content["train"]["step"]
    change(content)
    channels = {key: deployed["network_def"][key] for key in ("in_channels", "out_channels")}
    deployed["network_def"] = content["network_def"] | channels
    write_json(train, content)
    write_json(inference, deployed)


def supervised(content: Content) -> None:
    """Labels alone."""
    del content["unlabeled"], content["unlabeled_datalist"], content["train"]["weight"]
    content["train"]["dataloader"].pop("unlabeled")
    content["train"]["step"] = _step("medssl.methods.supervised.SupervisedStep")


def mean_teacher(content: Content) -> None:
    """The running mean of the network teaches it; the teacher is what is deployed."""
    _add_teacher(content)
    content["train"]["step"] = _step(
        "medssl.methods.baselines.MeanTeacherStep", teacher="@train#teacher", weight="@train#weight", seed="@seed"
    )


def ua_mt(content: Content) -> None:
    """The same, only where the teacher is certain."""
    _add_teacher(content)
    content["train"]["threshold"] = {"_target_": "medssl.training.Ramp", "final": 1.0, "length": "@total_steps"}
    content["train"]["step"] = _step(
        "medssl.methods.baselines.UaMtStep",
        teacher="@train#teacher",
        weight="@train#weight",
        threshold="@train#threshold",
        seed="@seed",
    )


def cps(content: Content) -> None:
    """Two networks teach each other."""
    one = content["network_def"]
    sizes = {key: one.pop(key) for key in ("in_channels", "out_channels")}
    content["network_def"] = {"_target_": "medssl.networks.twin_net.TwinNet", **sizes}
    content["network_def"]["network"] = {**one, "_mode_": "callable"}
    _ramp(content)
    content["train"]["step"] = _step("medssl.methods.baselines.CpsStep", network="@network", weight="@train#weight")


def plan(dataset: str, draws: dict[str, list[list[str]]], budget: int) -> Content:
    """Return the plan; an iteration of a view passes 2 labelled patches, and in the second half 2 unlabelled ones."""
    views = {"bundle": SOURCE, "patches_per_iteration": 9, "group": "ensemble"}
    return {
        "name": f"Co-training against labels alone, {dataset}",
        "about": ABOUT,
        "part": "validation",
        "draws": draws,
        "seeds": [0],
        "budget": budget,
        "baseline": "supervised",
        "ensemble_baseline": "supervised_three",
        "arms": [
            {"name": "supervised_three", "members": "supervised", "size": 3, "group": "ensemble"},
            {"name": "umct", **views},
            _single("supervised", patches=2),
            _single("mean_teacher", patches=4),
            {"name": "cotraining", **views, "set": {"stochastic_passes": 0}},
            {"name": "views_supervised", **views, "patches_per_iteration": 6, "set": {"cotraining_weight": 0.0}},
            _single("ua_mt", patches=4),
            {**_single("cps", patches=8), "group": "ensemble"},
        ],
    }


def _single(name: str, *, patches: int) -> Content:
    return {"name": name, "bundle": f"arms/hippocampus_mri_{name}", "patches_per_iteration": patches}


def _one_network(views: Content) -> Content:
    network = {key: value for key, value in views["network"].items() if key != "_mode_"}
    return network | {key: views[key] for key in ("in_channels", "out_channels")}


def _step(target: str, **options: str) -> Content:
    return {"_target_": target, "loss": "@train#loss", "optimization": "@train#optimization", **options}


def _add_teacher(content: Content) -> None:
    content["teacher_network"] = content["network_def"]
    content["train"]["teacher"] = {
        "_target_": "medssl.training.EmaTeacher",
        "teacher": "$@teacher_network.to(@device)",
        "student": "@network",
    }
    _ramp(content)
    for handler in content["train"]["handlers"]:
        if handler["_target_"].endswith("ResumeHandler"):
            handler["parts"]["teacher"] = "@train#teacher"
        if handler["_target_"].endswith("LastWeights"):
            handler["network"] = "@teacher_network"


def _ramp(content: Content) -> None:
    """Weight of the unlabelled term: 0.1, reached after 40% of the run, for every baseline."""
    content["train"]["weight"] = {
        "_target_": "medssl.training.Ramp",
        "final": 0.1,
        "length": "$@total_steps * 0.4",
    }


def _read(path: Path) -> Content:
    content: Content = json.loads(path.read_text(encoding="utf-8"))
    return content


if __name__ == "__main__":
    main()
