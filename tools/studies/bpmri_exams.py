"""Two real prostate exams end to end: import, pre-train, overfit, infer, evaluate, report. It proves the path only.

    python tools/studies/bpmri_exams.py --data DATA --work WORK --out docs/results/bpmri

A network that is trained and tested on the same two exams says nothing about others. What is stopped goes on with the
same command.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medssl.bundle.predictor import load_predictor
from medssl.bundle.pretrain import pretrain
from medssl.bundle.run import train
from medssl.core.files import sha256_file, write_json, write_text
from medssl.core.provenance import provenance
from medssl.data.exam_import import native_grid
from medssl.data.import_cases import ImportOptions
from medssl.data.importers import import_data
from medssl.data.manifest import Manifest, load_manifest, save_manifest
from medssl.evaluation.detection import evaluate_detections
from medssl.inference.batch import run_batch
from medssl.inference.cases import gather_cases
from medssl.reports.build import write_report
from medssl.reports.sources import read_log

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "prostate_mri_lesion_cswin_unet"
PRETRAINING = {
    "epochs": 5,
    "iterations_per_epoch": 10,
    "batch_size": 2,
    "health_interval": 5,
    "num_workers": 0,
    "save_minutes": 1000,
}
SETTINGS = {
    "epochs": 30,
    "iterations_per_epoch": 10,
    "batch_size": 1,
    "learning_rate": 0.001,
    "val_interval": 1000,
    "num_workers": 0,
    "save_minutes": 1000,
    "fold": None,
}
ABOUT = (
    "One positive and one negative exam of ProstateX (images CC BY 3.0, delineations of PI-CAI CC BY-NC 4.0; no part "
    "of medssl) go through import, pre-training, training, inference, evaluation and report. **The network is tested "
    "on the exams it was trained on**: this proves the path, and says nothing about other exams."
)
TASKS = {
    "loss of rotation": "loss_rotation",
    "of contrast": "loss_contrast",
    "of inpainting": "loss_inpainting",
    "turns told right": "rotation_accuracy",
}
COMMAND = "python tools/studies/bpmri_exams.py --data DATA --work WORK --out docs/results/bpmri"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--data", "--work", "--out"):
        parser.add_argument(name, type=Path, required=True)
    arguments = parser.parse_args()
    manifest_file = prepare(arguments.data / "bpmri", arguments.work / "prepared")
    run = arguments.work / "run"
    pretrained = arguments.work / "pretrained"
    pretrain(BUNDLE, manifest=manifest_file, out=pretrained, overrides=PRETRAINING)
    record = train(pretrained, manifest=manifest_file, out=run, overrides=SETTINGS)
    maps = arguments.work / "maps"
    with load_predictor(run, device="cpu") as predictor:
        run_batch(predictor, gather_cases([manifest_file], part="training"), maps)
    manifest = load_manifest(manifest_file)
    content = score(manifest, manifest_file.parent, maps, arguments.work / "scores")
    write_report([arguments.work / "scores", maps, run, manifest_file], arguments.work / "report.html", worst=1)
    result = {
        "medssl": provenance("study", manifest=manifest.sha256(), weights=sha256_file(run / "models" / "model.pt")),
        "command": COMMAND,
        "pretraining": {"settings": PRETRAINING, "lines": train_lines(pretrained / "results" / "pretrain")},
        "settings": SETTINGS,
        "iterations": SETTINGS["epochs"] * SETTINGS["iterations_per_epoch"],
        "losses": [[line["iteration"], line["loss"]] for line in train_lines(run / "results")],
        "tensors_from_the_pretraining": len(json.loads((run / "results" / "weights.json").read_text())["loaded"]),
        "seconds_of_last_start": record["seconds"],
        "evaluation": {name: content[name] for name in ("summary", "counts", "statements", "cases")},
        "t2w_grids": t2w_grids(manifest, manifest_file.parent, maps),
        "seconds": {case["id"]: case["seconds"] for case in json.loads((maps / "run.json").read_text())["cases"]},
    }
    write_json(arguments.out.with_suffix(".json"), result)
    write_text(arguments.out.with_suffix(".md"), page(result))


def prepare(source: Path, target: Path) -> Path:
    imported = import_data(source, ImportOptions(root=target), layout="bpmri")
    for finding in imported.findings:
        print(f"{finding.severity} {finding.code} {finding.case}: {finding.text}")
    save_manifest(target / "manifest.json", imported.manifest)
    return target / "manifest.json"


def score(manifest: Manifest, root: Path, maps: Path, out: Path) -> dict[str, Any]:
    evaluation = evaluate_detections(manifest, root=root, predictions=maps, part="training", workers=1)
    inputs = {"manifest": {"name": manifest.name, "sha256": manifest.sha256()}, "part": "training"}
    inputs["run"] = {"sha256": sha256_file(maps / "run.json")}
    content = {"medssl": provenance("evaluate", **inputs), **evaluation.to_json()}
    write_json(out / "metrics.json", content)
    return content


def train_lines(results: Path) -> list[dict[str, Any]]:
    """Return what a training logged, once for each iteration."""
    events, _ = read_log(results / "train_log.jsonl")
    last = {event["iteration"]: event for event in events if event["kind"] == "train"}
    return [last[iteration] for iteration in sorted(last)]


def t2w_grids(manifest: Manifest, root: Path, maps: Path) -> list[dict[str, Any]]:
    """Compare the maps on the grid of the T2W with the grid that the exam had."""
    found = []
    for case in manifest.training:
        grid = native_grid((root / case.image[0]).parent)
        detection = nib.load(maps / f"{case.id}_t2w_detection_map.nii.gz")
        same = detection.shape == grid.shape and np.allclose(detection.affine, grid.affine, atol=1e-3)
        values = np.unique(detection.get_fdata())
        found.append({"case": case.id, "shape": list(detection.shape), "on_t2w_grid": bool(same)})
        found[-1]["confidences"] = [round(float(value), 4) for value in values[values > 0][::-1]]
    return found


def page(result: dict[str, Any]) -> str:
    summary, counts = result["evaluation"]["summary"], result["evaluation"]["counts"]
    first, last = result["losses"][0][1], result["losses"][-1][1]
    start, end = (result["pretraining"]["lines"][place] for place in (0, -1))
    tasks = ", ".join(f"{name} {start[key]:.2f} to {end[key]:.2f}" for name, key in TASKS.items())
    shown = {name: "not defined" if each["value"] is None else f"{each['value']:.3f}" for name, each in summary.items()}
    rows = [f"| {name} | {value} |" for name, value in shown.items()]
    cases = [
        f"| {case['id']} | {'positive' if case['positive'] else 'negative'} | {case['found']} of {case['lesions']} | "
        + ", ".join(f"{each['confidence']:.3f} ({each['outcome']})" for each in case["candidates"][:4])
        + f" | {result['seconds'][case['id']]['total']:.1f} |"
        for case in result["evaluation"]["cases"]
    ]
    grids = [
        f"| {each['case']} | {' x '.join(map(str, each['shape']))} | {'yes' if each['on_t2w_grid'] else 'no'} |"
        for each in result["t2w_grids"]
    ]
    return "\n".join(
        [
            "# Two real prostate exams, end to end",
            "",
            f"    {result['command']}",
            "",
            ABOUT,
            "",
            f"`prostate_mri_lesion_cswin_unet`, pre-trained for {end['iteration']} iterations of both exams "
            f"({end['seconds']:.0f} s; two views of each patch of 96 x 96 x 20 voxels): {tasks}. Then "
            f"{result['iterations']} iterations of one patch, {result['tensors_from_the_pretraining']} tensors from "
            f"the pre-training, learning rate {result['settings']['learning_rate']}; loss {first:.3f} at first, "
            f"{last:.3f} at last (focal and cross-entropy, with augmentation).",
            "",
            "| metric | on the training exams |",
            "|---|---|",
            *rows,
            "",
            f"{counts['found']} of {counts['lesions']} lesions found, {counts['false_candidates']} false candidates. "
            "Two patients are too few for intervals.",
            "",
            "| exam | reference | lesions found | candidates: confidence (outcome) | seconds |",
            "|---|---|---|---|---|",
            *cases,
            "",
            "The detection maps on the grid of the exam's own T2W:",
            "",
            "| exam | voxels | on the grid of the T2W |",
            "|---|---|---|",
            *grids,
            "",
            *(f"Note: {statement}" for statement in result["evaluation"]["statements"]),
            "",
        ]
    )


if __name__ == "__main__":
    main()
