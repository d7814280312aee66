"""Make the bundles and the plan of a study of co-training.

    .venv/bin/python tools/studies/cotraining_arms.py first --data ../shared/data --out runs/cotraining
    .venv/bin/medssl study runs/cotraining/plan.json --manifest data_manifests/hippocampus.json \
        --data-root ../shared/data/hippocampus --out runs/cotraining

The questions: "first", does co-training help a well-trained network, on development cases; "registered", the same on
the test cases, with every arm, as docs/results/cotraining_registered.md fixes it; "tuning", three settings of each side
of its primary contrast, on development cases; "ablation", what the parts of co-training are worth, on them too; "full",
several views against the supervised bundle with all labels, on the test cases.

Every arm is bundles/hippocampus_mri_umct with the same SegResNet, crops, augmentation, loss and optimiser; they differ
in the step and in how many networks learn. All cost the same number of patches passed forward and back.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labelled_draws import labelled_draws
from same_options import require_same_options

from medssl.bundle.catalog import find_bundle
from medssl.bundle.run import copy_bundle
from medssl.core.files import write_json

SOURCE = "hippocampus_mri_umct"
PRIMARY = (
    "Primary contrast, fixed before any case was scored: co-training of three views (weighted by uncertainty) minus "
    "the ensemble of three supervised networks, at equal patches passed forward and back. Last checkpoints; of mean "
    "teacher and UA-MT the teacher, of CPS the first network. "
)
EARLY = {"cotraining_start": 0.2, "cotraining_rise": 0.3}  # the longer it lasts, the fewer iterations it gets
LATE = {"cotraining_start": 0.8, "cotraining_rise": 0.0}  # the paper's, most likely
RATE, PASSES = 2e-3, 10  # of the bundle
BUDGET = 3000  # patches, by default
Content = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("question", choices=list(QUESTIONS))
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dataset", choices=["hippocampus", "brains"], default="hippocampus")
    parser.add_argument("--labelled", nargs="+", default=["2"])
    parser.add_argument("--budget", type=int, default=BUDGET)
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--network", choices=["segresnet", "unet"], default="segresnet")
    parser.add_argument("--spacing", type=float, help="voxel size of every arm in mm; default: as planned for the data")
    parser.add_argument("--patch", type=int, help="voxels of a patch's edges in every arm; default: as planned")
    parser.add_argument(
        "--passes", type=int, default=PASSES, help="stochastic passes of the arms of views that take any"
    )
    parser.add_argument("--rate", type=float, default=RATE, help="learning rate of every arm")
    options = parser.parse_args()
    require_same_options(options.out, options, may_change=("labelled", "draws"))
    for name, change in ARMS.items():
        make_arm(options.out / "arms" / f"hippocampus_mri_{name}", change, network=options.network)
    question = QUESTIONS[options.question]
    known = options.labelled if question.labelled is None else [question.labelled]
    draws = labelled_draws(options.data, options.dataset, known, options.draws)
    content = plan(question, options.dataset, draws, options.budget)
    given = {"resample_to_spacing": options.spacing, "patch_size": options.patch}
    cubes = {name: [edge] * 3 for name, edge in given.items() if edge is not None}
    set_for_all(content["arms"], cubes, rate=options.rate, passes=options.passes)
    if options.network == "unet":
        content["name"] += ", the yardstick's UNet in every arm"
        for arm in content["arms"]:
            if arm.get("bundle") == SOURCE:
                arm["bundle"] = "arms/hippocampus_mri_views"
    write_json(options.out / "plan.json", content)


def make_arm(out: Path, change: Callable[[Content], None], *, network: str) -> None:
    """Copy the co-trained bundle and change its training, and its network in both configurations."""
    if out.exists():
        return
    copy_bundle(find_bundle(SOURCE), out)
    train, inference = (out / "configs" / f"{name}.json" for name in ("train", "inference"))
    content, deployed = _read(train), _read(inference)
    if network == "unet":
        target = "medssl.networks.split_unet.SplitUNet"
        content["network_def"]["network"] = {"_target_": target, "_mode_": "callable"}
    change(content)
    channels = {key: deployed["network_def"][key] for key in ("in_channels", "out_channels")}
    deployed["network_def"] = content["network_def"] | channels
    write_json(train, content)
    write_json(inference, deployed)


def supervised(content: Content) -> None:
    """Labels alone."""
    _one_network(content)
    del content["unlabeled"], content["unlabeled_datalist"], content["train"]["weight"]
    content["train"]["dataloader"].pop("unlabeled")
    content["train"]["step"] = {
        "_target_": "medssl.methods.supervised.SupervisedStep",
        "loss": "@train#loss",
        "optimization": "@train#optimization",
    }


def single(content: Content) -> None:
    """One network, for the bundle's configurations of mean teacher, UA-MT and CPS."""
    _one_network(content)


def views(content: Content) -> None:
    """The bundle as it is."""


def two_views(content: Content) -> None:
    """Two views, between which weighting does nothing."""
    content["network_def"]["views"] = 2


def six_views(content: Content) -> None:
    """All permutations of the axes."""
    content["network_def"]["views"] = 6


def view_net(content: Content) -> None:
    """The paper's kind of network, n x n x 1 kernels, of about the same size."""
    content["network_def"]["network"] = {
        "_target_": "medssl.networks.view_net.ViewNet",
        "_mode_": "callable",
        "size": "tiny",
    }


def perturbed(content: Content) -> None:
    """Each view sees unlabelled crops with strongly changed intensities, and learns what the others say without."""
    content["train"]["step"]["perturbation"] = {"_target_": "medssl.methods.umct.Perturbation", "seed": "@seed"}


def dropout_before_head(content: Content) -> None:
    """Dropout before the output convolution only, where passes cost next to nothing."""
    content["network_def"]["network"]["dropout_place"] = "head"


ARMS = {
    each.__name__: each
    for each in (
        views,
        supervised,
        single,
        two_views,
        six_views,
        view_net,
        perturbed,
        dropout_before_head,
    )
}


def plan(question: Question, dataset: str, draws: dict[str, list[list[str]]], budget: int) -> Content:
    """Return the plan of a question."""
    single, ensemble = question.baselines
    return {
        "name": f"Co-training against labels alone, {dataset}",
        "about": question.about,
        "part": "test" if question.on_test else "validation",
        "draws": draws,
        "seeds": list(question.seeds),
        "budget": budget,
        "baseline": single,
        "ensemble_baseline": ensemble,
        "arms": question.arms(),
    }


def set_for_all(arms: list[Content], cubes: Content, *, rate: float, passes: int) -> None:
    """Give every arm that is trained its cubes and a learning rate; a rate that an arm sets is scaled with it.

    Arms of views are given their passes too, unless passes are what they change.
    """
    for arm in arms:
        own = arm.get("set", {})
        rates = {"learning_rate": own.get("learning_rate", RATE) * rate / RATE}
        number = {"stochastic_passes": passes} if arm.get("group") == "ensemble" and passes != PASSES else {}
        values = {**number, **own, **cubes, **(rates if rate != RATE else {})}
        if "bundle" in arm and values:
            arm["set"] = values


def main_arms() -> list[Content]:
    """Return the arms by what they decide; those of the primary contrast first."""
    cotraining = _views("cotraining") | {"set": {"stochastic_passes": 0}}
    return [
        {"name": "supervised_three", "members": "supervised", "size": 3, "group": "ensemble"},
        _views("umct"),
        _single("supervised", patches=2),
        _taught("mean_teacher", patches=4),
        cotraining,
        {"name": "umct_single", "single_views_of": "umct"},
        {"name": "cotraining_single", "single_views_of": "cotraining"},
        _views("views_supervised", patches=6) | {"set": {"cotraining_weight": 0.0}},
        _taught("ua_mt", patches=4),
        _taught("cps", patches=8),
    ]


def registered_arms() -> list[Content]:
    """Return the same for runs that go side by side, for which loaders of their own would be too many processes."""
    return [arm | {"set": {**arm.get("set", {}), "num_workers": 0}} if "bundle" in arm else arm for arm in main_arms()]


def tuning_arms() -> list[Content]:
    """Return three settings of supervised training, and as many of co-training."""
    others = {"supervised_half_rate": RATE / 2, "supervised_double_rate": RATE * 2}
    single = _single("supervised", patches=2)
    return [
        *(
            {"name": f"{name}_three", "members": name, "size": 3, "group": "ensemble"}
            for name in ("supervised", *others)
        ),
        _views("umct"),
        *early_arms(),
        single,
        *(single | {"name": name, "set": {"learning_rate": rate}} for name, rate in others.items()),
    ]


def early_arms() -> list[Content]:
    """Return co-training that is earlier and stronger, as the paper has it and with perturbed crops."""
    strong = {"set": EARLY | {"cotraining_weight": 1.0}}
    bundles = {"early_start_weight_1": SOURCE, "perturbed": "arms/hippocampus_mri_perturbed"}
    return [_views(name, patches=11, bundle=bundle) | strong for name, bundle in bundles.items()]


def full_arms() -> list[Content]:
    """Return the supervised bundle, views of SegResNets, and one SegResNet, all with labels alone."""
    yardstick = {"name": "yardstick", "bundle": "hippocampus_mri_supervised", "patches_per_iteration": 2}
    views = _views("views_supervised", patches=6) | {"set": {"cotraining_weight": 0.0}}
    return [yardstick, views, _single("supervised", patches=2)]


def ablation_arms() -> list[Content]:
    """Return one arm for each part of the method."""
    labels = "train#step#pseudo_labels"
    changed = {
        "no_passes": {"stochastic_passes": 0},
        "no_weighting": {f"{labels}#power": 0.0},
        "by_voxel": {f"{labels}#granularity": "voxel", f"{labels}#eps": 1e-6},
        "four_passes": {"stochastic_passes": 4},
        "hard_labels": {f"{labels}#hard": True},
        "weight_1": {"cotraining_weight": 1.0},
    }
    other = {"two_views": 6, "six_views": 18, "view_net": 9, "dropout_before_head": 9}
    alone = {"set": {"cotraining_weight": 0.0}}
    return [
        _views("umct"),
        _views("views_supervised", patches=6) | alone,
        _views("view_net_supervised", patches=6, bundle="arms/hippocampus_mri_view_net") | alone,
        # As many labelled patches as the views without the archive have, for half as much again
        _views("umct_longer") | {"budget": BUDGET * 3 // 2},
        *(_views(name) | {"set": values} for name, values in changed.items()),
        _views("early_start", patches=11) | {"set": EARLY},
        *early_arms(),
        _views("late_start", patches=7) | {"set": LATE},
        *(_views(name, patches=patches, bundle=f"arms/hippocampus_mri_{name}") for name, patches in other.items()),
    ]


def _views(name: str, *, patches: int = 9, bundle: str = SOURCE) -> Content:
    """Return an arm of views; one of them passes 2 labelled patches, and in the second half 2 unlabelled ones too."""
    return {"name": name, "bundle": bundle, "patches_per_iteration": patches, "group": "ensemble"}


def _single(name: str, *, patches: int) -> Content:
    return {"name": name, "bundle": f"arms/hippocampus_mri_{name}", "patches_per_iteration": patches}


def _taught(method: str, *, patches: int) -> Content:
    """Return an arm of one network that learns from the archive as a configuration of the bundle says."""
    return _single("single", patches=patches) | {"name": method, "config_files": ["train", f"train_{method}"]}


def _one_network(content: Content) -> None:
    """Replace the views by the network of one, and take the co-training step out."""
    views = content["network_def"]
    network = {key: value for key, value in views["network"].items() if key != "_mode_"}
    content["network_def"] = network | {key: views[key] for key in ("in_channels", "out_channels")}
    del content["train"]["step"]


def _read(path: Path) -> Content:
    content: Content = json.loads(path.read_text(encoding="utf-8"))
    return content


@dataclass(frozen=True, kw_only=True)
class Question:
    """What a study asks: its arms, what each group of them is compared with, and on which cases."""

    arms: Callable[[], list[Content]]
    about: str
    baselines: tuple[str, str] = ("supervised", "supervised_three")
    on_test: bool = False
    seeds: tuple[int, ...] = (0,)
    labelled: str | None = None  # by default as asked for


QUESTIONS = {
    "first": Question(
        arms=main_arms,
        about="Does co-training help a network that is trained as well as labels alone allow? On development cases. "
        + PRIMARY,
    ),
    "registered": Question(
        arms=registered_arms,
        about=f"Registered in docs/results/cotraining_registered.md before the test cases were opened. {PRIMARY}",
        on_test=True,
    ),
    "tuning": Question(
        arms=tuning_arms,
        about=f"Three settings of each side of the primary contrast. On development cases. {PRIMARY}",
    ),
    "ablation": Question(
        arms=ablation_arms,
        about="What the parts of co-training are worth, against it as it is by default. On development cases. ",
        baselines=("umct", "umct"),
    ),
    "full": Question(
        arms=full_arms,
        about="Views with all labels against the supervised bundle and one network of the views' kind. ",
        baselines=("yardstick", "yardstick"),
        on_test=True,
        seeds=(0, 1, 2),
        labelled="all",
    ),
}


if __name__ == "__main__":
    main()
