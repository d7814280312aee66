"""Classify slices after pre-training on all, evenly spaced, or HASH-6 slices; prove the machinery end to end.

    .venv/bin/python tools/studies/slice_classification.py --data DATA --out runs/slices

DATA holds ct/ and ct2d/. Pre-training sees the CT volumes and the training and validation images of COVID-CT; the leak
check between these and all test images is run, written to leaks.json, and what leaks is taken out of pre-training.
Look-alike head CTs, of which one patient may be the cause, are kept in one fold. The settings of pre-training were
chosen by its own monitors. Arms: random start, all, every_n (as many of each volume, and of the images, as HASH-6),
hash6; at equal optimiser steps and at equal epochs.
Downstream: COVID-CT with its published split, and head CT in 5 folds (in which each image is tested once). AUC with
intervals, and paired differences to every_n. The same command goes on after a stop.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from same_options import require_same_options
from short_pretraining import SOURCE, pretrain_slices

from medssl.bundle.catalog import find_bundle
from medssl.cli.main import run as medssl
from medssl.core.files import write_json, write_text
from medssl.core.provenance import provenance
from medssl.data.manifest import Case, Manifest, save_manifest
from medssl.data.splits import assign_folds
from medssl.evaluation.classification_summary import ClassCase, ClassEvaluation, paired_class_difference
from medssl.evaluation.detection_summary import Estimate
from medssl.metrics.classification import auc
from medssl.reduction.audit import Audit, save_reduced
from medssl.reduction.leaks import Leak, find_leaks, is_leak, without_leaks
from medssl.reduction.reduce import reduce_manifest
from medssl.reduction.settings import Settings

VOLUMES = ("chest_abdomen_256", "example_ct")
REDUCTIONS = ("all", "every_n", "hash6")
BASELINE = "every_n"
FOLDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--stage", choices=["pretrain", "moco"], default="moco", help="SwAV or MoCo v2.")
    parser.add_argument("--size", default="tiny", help="Network: tiny, resnet18 or resnet50.")
    parser.add_argument("--steps", type=int, default=500, help="Optimiser steps of pre-training on all slices.")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--side", type=int, default=64, help="Pixels of an image.")
    parser.add_argument("--epochs", type=int, default=10, help="Of fine-tuning.")
    parser.add_argument("--tasks", nargs="+", choices=["covid_ct", "head_ct"], default=["covid_ct", "head_ct"])
    parser.add_argument("--seeds", type=int, default=2, help="Of COVID-CT.")
    parser.add_argument("--fold-seeds", type=int, default=1, help="Of head CT, with five networks each.")
    parser.add_argument("--data-only", action="store_true", help="Only manifests, reduction and leak check.")
    options = parser.parse_args()
    out = options.out
    require_same_options(out, options, may_change=("tasks", "seeds", "fold_seeds", "data_only"))
    made = prepare(options.data, out)
    kept = {name: count["kept"] for name, count in made.items()}
    print(json.dumps(made), flush=True)
    if options.data_only:
        return
    steps = {name: options.steps for name in REDUCTIONS}
    epochs = {f"{name}_epochs": max(1, options.steps * kept[name] // kept["all"]) for name in REDUCTIONS[1:]}
    arms: dict[str, Path | None] = {"random": None}
    for name, count in {**steps, **epochs}.items():
        arms[name] = make_encoder(name, count, options)
    seeds = {"covid_ct": options.seeds, "head_ct": options.fold_seeds}
    results: dict[str, Any] = {}
    for dataset in options.tasks:
        results[dataset] = {
            name: [score(dataset, name, encoder, seed, options) for seed in range(seeds[dataset])]
            for name, encoder in arms.items()
        }
    report(out, made, {**steps, **epochs}, results, options)


def prepare(data: Path, out: Path) -> dict[str, dict[str, int]]:
    """Write the manifests of both tasks and of pre-training, look for leaks, reduce; return the kept slices."""
    covid, head = covid_manifest(data), head_manifest(data)
    head = whole_groups(head, data)
    save_manifest(out / "covid_ct.json", covid)
    save_manifest(out / "head_ct.json", head)
    found, _ = find_leaks(covid, data, workers=0)
    told(out / "leaks_covid_ct.json", "covid_ct, published split", found)
    between = [leak for number in range(FOLDS) for leak in find_leaks(held_out(head, number), data, workers=0)[0]]
    told(out / "leaks_head_ct.json", "head_ct, each fold against the others", between)
    slices = pretraining_manifest(covid, head)
    leaks, _ = find_leaks(slices, data, workers=0)
    told(out / "leaks_pretraining.json", "pre-training against all test images", leaks)
    slices = without_leaks(slices, leaks).model_copy(update={"test": ()})
    hash6 = reduce_manifest(slices, data, Settings(method="dhash", scope="dataset"), workers=0).audit
    save_reduced(out / "hash6.json", slices, hash6)
    everything = reduce_manifest(slices, data, Settings(method="all", scope="dataset"), workers=0).audit
    save_reduced(out / "all.json", slices, everything)
    kept = {case: row["kept"] for case, row in hash6.counts()["cases"].items()}
    chosen = evenly_chosen(slices, kept)
    settings = Settings(method="every_n", budget="given")
    every_n = reduce_manifest(
        chosen, data, settings, budgets=kept | {case.id: 1 for case in images_of(chosen)}, workers=0
    )
    save_reduced(out / "every_n.json", chosen, every_n.audit)
    counts = {"all": everything, "every_n": every_n.audit, "hash6": hash6}
    return {name: composition(audit) for name, audit in counts.items()}


def evenly_chosen(slices: Manifest, kept: dict[str, int]) -> Manifest:
    """Leave as many images as HASH-6 kept, evenly spaced, and the volumes of which it kept anything."""
    images = images_of(slices)
    wanted = sum(kept[case.id] for case in images)
    spaced = {images[int((place + 0.5) * len(images) / wanted)].id for place in range(wanted)}
    left = [case for case in slices.unlabeled if case.id in spaced or (case.id in VOLUMES and kept[case.id])]
    return slices.model_copy(update={"unlabeled": tuple(left)})


def images_of(slices: Manifest) -> list[Case]:
    return [case for case in slices.unlabeled if case.id not in VOLUMES]


def composition(audit: Audit) -> dict[str, int]:
    """Count the kept slices of volumes and the kept images."""
    kept = {case: row["kept"] for case, row in audit.counts()["cases"].items()}
    volumes = sum(count for case, count in kept.items() if case in VOLUMES)
    return {"kept": sum(kept.values()), "of_volumes": volumes}


def whole_groups(manifest: Manifest, data: Path) -> Manifest:
    """Draw the folds anew until look-alike images, which may be of one patient, are all in one fold."""
    group = {case.id: case.id for case in manifest.training}
    while pairs := [
        (leak.held_out, leak.trained)
        for number in range(FOLDS)
        for leak in find_leaks(held_out(manifest, number), data, workers=0)[0]
        if is_leak(leak)
    ]:
        for pair in pairs:
            kept, joined = sorted(group[each] for each in pair)
            group = {case: kept if name == joined else name for case, name in group.items()}
        grouped = [case.model_copy(update={"patient": group[case.id], "fold": None}) for case in manifest.training]
        manifest = assign_folds(manifest.model_copy(update={"training": tuple(grouped)}), folds=FOLDS, seed=0)
    return manifest


def held_out(manifest: Manifest, fold: int) -> Manifest:
    """Return the manifest with one fold as its test part."""
    parts = [tuple(case for case in manifest.training if (case.fold == fold) is tested) for tested in (False, True)]
    return manifest.model_copy(update={"training": parts[0], "test": parts[1]})


def told(file: Path, what: str, leaks: list[Leak]) -> None:
    leaking = sum(map(is_leak, leaks))
    pairs = [each.to_json() for each in leaks]
    write_json(file, {"leaking": leaking, "look_alike": len(leaks) - leaking, "pairs": pairs})
    print(f"leak check, {what}: {leaking} pairs leak, {len(leaks) - leaking} others look alike", flush=True)


def covid_manifest(data: Path) -> Manifest:
    """COVID-CT with its published split; file names name no patient reliably, so none is given."""
    parts: dict[str, list[Case]] = {"train": [], "val": [], "test": []}
    for value, kind in enumerate(("NonCOVID", "COVID")):
        folder = data / "ct2d" / "covid_ct"
        files = {file.stem: file for file in (folder / f"CT_{kind}").iterdir()}
        for part, cases in parts.items():
            names = (folder / "splits" / kind / f"{part}CT_{kind}.txt").read_text(encoding="utf-8").split("\n")
            for name in filter(None, (each.strip() for each in names)):
                file = files.get(Path(name.replace(" ", "_")).stem)
                if file is not None:
                    image = (file.relative_to(data).as_posix(),)
                    cases.append(Case(id=f"{part}_{kind}_{len(cases):03d}", image=image, **{"class": value}))
    labels = {"0": "no COVID-19", "1": "COVID-19"}
    return Manifest(
        name="covid_ct",
        modality="CT",
        labels=labels,
        training=tuple(parts["train"]),
        validation=tuple(parts["val"]),
        test=tuple(parts["test"]),
    )


def head_manifest(data: Path) -> Manifest:
    """Head CT in 5 folds."""
    cases = []
    with (data / "ct2d" / "head_ct" / "labels.csv").open(encoding="utf-8") as stream:
        for number, value in list(csv.reader(stream))[1:]:
            image = f"ct2d/head_ct/{int(number):03d}.jpg"
            cases.append(Case(id=f"head_{int(number):03d}", image=(image,), **{"class": int(value)}))
    labels = {"0": "no haemorrhage", "1": "haemorrhage"}
    return assign_folds(
        Manifest(name="head_ct", modality="CT", labels=labels, training=tuple(cases)), folds=FOLDS, seed=0
    )


def pretraining_manifest(covid: Manifest, head: Manifest) -> Manifest:
    """The slices to learn from, with every image that is ever tested as the test part, for the leak check."""
    volumes = [Case(id=name, image=(f"ct/{name}.nii.gz",)) for name in VOLUMES]
    images = [
        case.model_copy(update={"class_": None, "id": f"{part}_{case.id}"})
        for part in ("training", "validation")
        for case in covid.part(part)  # type: ignore[arg-type]
    ]
    tested = [
        case.model_copy(update={"class_": None, "fold": None, "id": f"test_{case.id}"})
        for case in (*covid.test, *head.training)
    ]
    labels = {"0": "background"}
    return Manifest(name="slices", modality="CT", labels=labels, unlabeled=(*volumes, *images), test=tuple(tested))


def make_encoder(name: str, steps: int, options: argparse.Namespace) -> Path:
    folder = options.out / "pretraining" / name
    manifest = options.out / f"{name.removesuffix('_epochs')}.json"
    pretrain_slices(folder, manifest, options.data, steps, options)
    return folder


def score(dataset: str, name: str, pretrained: Path | None, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Fine-tune, and return the metrics of the test images (of all folds for head CT)."""
    out, manifest = options.out / dataset / f"{name}_seed{seed}" / "new_ct_slices", options.out / f"{dataset}.json"
    folds = dataset == "head_ct"
    metrics = out / "results" / "metrics.json" if folds else out.parent / "test" / "metrics.json"
    if not metrics.is_file():
        values = {
            "network_def#size": options.size,
            "image_size": [options.side, options.side],
            "seed": seed,
            "epochs": options.epochs,
            "batch_size": options.batch,
            "learning_rate": 0.001,
            "frozen_epochs": options.epochs // 7,
            "val_interval": 5,
            "num_workers": 0,
        }
        words = ["finetune", str(pretrained or find_bundle(SOURCE)), "--manifest", str(manifest), "--out", str(out)]
        words += ["--data-root", str(options.data), *(["--folds", str(FOLDS)] if folds else [])]
        words += [] if pretrained else ["--from-scratch"]
        words += [word for key, value in values.items() for word in ("--set", f"{key}={json.dumps(value)}")]
        done(medssl(words))
        if not folds:
            common = ["--data-root", str(options.data), "--part", "test"]
            test = str(out.parent / "test")
            done(medssl(["infer", str(out), str(manifest), "--out", test, *common]))
            done(medssl(["evaluate", test, "--manifest", str(manifest), "--task", "classification", *common]))
    return json.loads(metrics.read_text(encoding="utf-8"))


def done(code: int) -> None:
    if code:
        raise SystemExit(code)


def cases_of(metrics: dict[str, Any]) -> list[ClassCase]:
    names = list(metrics["labels"].values())
    return [
        ClassCase(
            id=case["id"],
            group=case["group"],
            truth=names.index(case["truth"]),
            probabilities=tuple(case["probabilities"][name] for name in names),
        )
        for case in metrics["cases"]
    ]


def mean_of(runs: list[list[ClassCase]]) -> list[ClassCase]:
    """Return the cases with the mean probability over the seeds."""
    by_id = [{case.id: case.probabilities for case in run} for run in runs]
    return [
        ClassCase(
            id=case.id,
            group=case.group,
            truth=case.truth,
            probabilities=tuple(float(value) for value in np.mean([each[case.id] for each in by_id], axis=0)),
        )
        for case in runs[0]
    ]


def report(
    out: Path,
    made: dict[str, dict[str, int]],
    steps: dict[str, int],
    results: dict[str, Any],
    options: argparse.Namespace,
) -> None:
    lines = [
        "| data | pre-trained on | slices (of CT) | steps | AUC of each seed | AUC, mean of seeds | minus every_n |"
    ]
    lines += ["|---|---|---|---|---|---|---|"]
    rows = []
    for dataset, arms in results.items():
        fused = {name: mean_of([cases_of(each) for each in runs]) for name, runs in arms.items()}
        for name, runs in arms.items():
            base = fused[f"{BASELINE}_epochs" if name.endswith("_epochs") else BASELINE]
            against = None if fused[name] is base else paired_class_difference(fused[name], base, auc, 2)
            alone = ClassEvaluation(classes=("0", "1"), seed=0, cases=tuple(fused[name])).metrics["auc"]
            values = [run["summary"]["auc"]["value"] for run in runs]
            slices = made.get(name.removesuffix("_epochs"), {"kept": 0, "of_volumes": 0})
            count, taken = f"{slices['kept']} ({slices['of_volumes']})", steps.get(name, 0)
            shown = ", ".join(f"{value:.3f}" for value in values)
            difference = "" if against is None else interval(against, sign="+")
            lines.append(f"| {dataset} | {name} | {count} | {taken} | {shown} | {interval(alone)} | {difference} |")
            rows.append({"data": dataset, "arm": name, "auc": values, "mean": alone.to_json()})
            rows[-1]["difference"] = against.to_json() if against else None
    about = (
        f"{options.stage}, {options.size}, {options.side} x {options.side}. Differences are "
        "paired over images, with 95% bootstrap intervals; no arm is called better where an interval holds 0. Names "
        "with _epochs took as many epochs as all, so fewer steps, and are compared with every_n_epochs."
    )
    write_json(
        out / "classification.json",
        {
            **provenance("slice_classification"),
            "slices": made,
            "options": vars(options) | {"data": "DATA", "out": out.name},
            "rows": rows,
        },
    )
    command = "    python tools/studies/slice_classification.py --data DATA --out runs/slices"
    text = ["# Slices", "", about, "", *lines, "", "Made by:", "", command, ""]
    write_text(out / "classification.md", "\n".join(text))


def interval(found: Estimate, sign: str = "") -> str:
    if found.value is None or found.low is None:
        return "not defined" if found.value is None else f"{found.value:{sign}.3f}"
    return f"{found.value:{sign}.3f} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


if __name__ == "__main__":
    main()
