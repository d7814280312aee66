"""A small detection study for the report: exams of three sequences, detection maps, run.json and metrics.json."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
from evaluation.small_detections import AFFINE, SHAPE, usual

from medssl.core.provenance import provenance
from medssl.data.manifest import Manifest, save_manifest
from medssl.evaluation.detection import evaluate_detections


def write_study(folder: Path) -> list[Path]:
    """Write it and return the sources of a report."""
    study = usual(folder)
    rng = np.random.default_rng(0)
    for case in study.cases:
        names = [f"{case['id']}_{sequence}.nii.gz" for sequence in ("t2w", "adc", "hbv")]
        for name in names:
            nib.save(nib.Nifti1Image(rng.normal(size=SHAPE).astype(np.float32), AFFINE), folder / name)
        case["image"] = names
    manifest = Manifest.model_validate(study.manifest.to_json() | {"modality": "bpMRI: T2W, ADC, high-b DWI"})
    save_manifest(folder / "manifest.json", manifest)
    listed = [
        {"id": case["id"], "state": "done", "output": f"{case['id']}.nii.gz", "seconds": {"total": 1.0}}
        for case in study.cases
    ]
    labels = {"0": "background", "1": "significant cancer"}
    run = {"medssl": provenance("infer"), "labels": labels, "cases": listed, "bundle": {"name": "b"}}
    (study.predictions / "run.json").write_text(json.dumps(run))
    evaluation = evaluate_detections(manifest, root=folder, predictions=study.predictions, workers=1)
    (folder / "scores").mkdir()
    inputs = {"manifest": {"name": manifest.name, "sha256": "0"}, "part": "test"}
    content = {"medssl": provenance("evaluate", **inputs), **evaluation.to_json()}
    (folder / "scores" / "metrics.json").write_text(json.dumps(content))
    return [folder / "manifest.json", study.predictions, folder / "scores"]
