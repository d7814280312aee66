"""A small study on the real template: thresholds as the model, so that every number is true and nothing is trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from medssl.core.provenance import provenance
from medssl.data.template import write_blocks

HOSTILE = "<script>alert('$x$')</script>"


def _interval(values: list[float]) -> dict[str, Any]:
    return {"mean": float(np.mean(values)), "low": min(values), "high": max(values), "n": len(values), "groups": 6}


def _predict(root: Path, image: str, low: int) -> nib.Nifti1Image:
    source = nib.load(root / image)
    values = np.asanyarray(source.dataobj)
    return nib.Nifti1Image((values >= low).astype(np.uint8) + (values >= 194), source.affine)


def _dice(root: Path, label: str, prediction: nib.Nifti1Image) -> dict[str, float]:
    reference, found = np.asanyarray(nib.load(root / label).dataobj), np.asanyarray(prediction.dataobj)
    return {
        name: float(2 * ((reference == v) & (found == v)).sum() / ((reference == v).sum() + (found == v).sum()))
        for v, name in ((1, "grey matter"), (2, "white matter"))
    }


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders: data (manifest), predictions (run.json), metrics, run (training log)."""
    base = tmp_path_factory.mktemp("study")
    manifest = write_blocks(base / "data")
    (base / "predictions").mkdir()
    cases, scores = [], []
    for number, case in enumerate(manifest.test):
        prediction = _predict(base / "data", case.image[0], 100 + 12 * number)
        nib.save(prediction, base / "predictions" / f"{case.id}.nii.gz")
        seconds = {"read": 0.1, "network": 1.0 + number, "restore": 0.2, "write": 0.05, "total": 1.35 + number}
        cases.append({"id": case.id, "state": "done", "output": f"{case.id}.nii.gz", "seconds": seconds})
        dice = _dice(base / "data", str(case.label), prediction)
        classes = {name: {"dice": value, "hd95_mm": 2.0, "state": "both"} for name, value in dice.items()}
        scores.append({"id": case.id, "group": f"g{number:03d}", "classes": classes})
    failure = {"code": "image-unreadable", "severity": "error", "case": HOSTILE, "text": "truncated", "fix": "resend"}
    cases.append({"id": HOSTILE, "state": "failed", "image": ["DOE^JANE.nii.gz"], "seconds": None, "finding": failure})
    nib.save(_predict(base / "data", "whole.nii.gz", 120), base / "predictions" / "whole-template.nii.gz")
    cases.append({"id": "whole-template", "state": "done", "output": "whole-template.nii.gz", "seconds": None})
    _write_json(base / "predictions" / "run.json", _run(manifest.labels, cases))
    _write_json(base / "metrics" / "metrics.json", _metrics(scores))
    _write_log(base / "run" / "results" / "train_log.jsonl")
    _write_json(base / "run" / "results" / "weights.json", _weights())
    folders = {name: base / name for name in ("predictions", "metrics", "run")}
    return {**folders, "manifest": base / "data" / "manifest.json", "whole": base / "data" / "whole.json"}


def _run(labels: dict[str, str], cases: list[dict[str, Any]]) -> dict[str, Any]:
    bundle = {"name": "thresholds", "version": "1.0", "weights_sha256": "ab" * 32, "config_sha256": "cd" * 32}
    return {
        "medssl": provenance("infer"), "bundle": bundle, "labels": labels, "wall_seconds": 25.5,
        "startup_seconds": 3.25, "peak_memory_bytes": 2**30, "cases": cases,
    }  # fmt: skip


def _metrics(scores: list[dict[str, Any]]) -> dict[str, Any]:
    summary: dict[str, Any] = {}
    for name in ("grey matter", "white matter"):
        values = [case["classes"][name]["dice"] for case in scores]
        counts = {"both": len(values), "missed": 0, "false": 0, "absent": 0}
        summary[name] = {"dice": _interval(values), "hd95_mm": _interval([1.0, 2.0, 4.0]), "counts": counts}
    means = [float(np.mean([entry["dice"] for entry in case["classes"].values()])) for case in scores]
    summary["mean"] = {"dice": _interval(means)}
    policy = "A missed structure counts as Dice 0; an absent one is left out."
    return {
        "medssl": provenance("evaluate"), "labels": {"1": "grey matter", "2": "white matter"}, "policy": policy,
        "tolerance_mm": 1.0, "cases": scores, "summary": summary, "findings": [],
    }  # fmt: skip


def _write_log(path: Path) -> None:
    lines: list[dict[str, Any]] = [{"kind": "start", "max_epochs": 20, "epoch_length": 10, "precision": "float32"}]
    for epoch in range(1, 21):
        loss = 1.2 * np.exp(-epoch / 7) + 0.2 + 0.03 * (epoch % 3)
        timing = {"step_seconds": 0.4 + 0.02 * (epoch % 4), "wait_share": 0.04 + 0.02 * (epoch % 2)}
        lines.append({"kind": "train", "epoch": epoch, "iteration": 10 * epoch, "loss": loss, "skipped": 0, **timing})
        dice = {"grey matter": 0.93 - 0.5 * np.exp(-epoch / 4), "white matter": 0.9 - 0.6 * np.exp(-epoch / 5)}
        lines.append(
            {"kind": "validation", "epoch": epoch, "mean_dice": float(np.mean([*dice.values()])), "dice": dice}
        )
    path.parent.mkdir(parents=True)
    text = "\n".join(json.dumps(line) for line in lines) + '\n{"kind":"tra'
    path.write_text(text)


def _weights() -> dict[str, Any]:
    source = {"file": "model.pt", "sha256": "ef" * 32}
    return {
        "loaded": ["a"] * 40,
        "reshaped": [],
        "skipped": ["head.weight"],
        "missing": ["head.weight"],
        "source": source,
    }


def _write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
