"""Compare `medssl infer` with stock `python -m monai.bundle run` on the same bundle, images and machine.

Both run as a user runs them, in turn, several times; the order alternates, so that other load on the machine meets
both. Start-up (imports, building, loading weights) is told apart from the time between the first and the last output,
which both leave on disk in the same way.

    python tools/bench/inference_vs_stock.py BUNDLE IMAGES --repeats 3 --out docs/results/inference_vs_stock
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medssl.core.files import write_json, write_text
from medssl.core.provenance import provenance

RESULT = "docs/results/inference_vs_stock"


def run_stock(bundle: Path, images: Path, out: Path) -> list[str]:
    config = bundle / "configs" / "inference.json"
    values = {"bundle_root": bundle, "dataset_dir": images, "output_dir": out}
    options = [word for key, value in values.items() for word in (f"--{key}", str(value))]
    return [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(config), *options]


def run_medssl(bundle: Path, images: Path, out: Path) -> list[str]:
    return [str(Path(sys.executable).with_name("medssl")), "infer", str(bundle), str(images), "--out", str(out)]


def timed(command: list[str], out: Path) -> dict[str, float]:
    load = os.getloadavg()[0]
    start = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    total = time.monotonic() - start
    times = sorted(path.stat().st_mtime for path in out.rglob("*.nii.gz"))
    # n outputs have n - 1 intervals between them
    per_case = (times[-1] - times[0]) / (len(times) - 1)
    return {
        "cases": len(times),
        "total_seconds": total,
        "seconds_per_case": per_case,
        "startup_seconds": total - per_case * len(times),
        "load_before": load,
    }


def label_maps(folder: Path) -> dict[str, Path]:
    """Return the label maps by case: stock appends _seg to the name."""
    return {path.name.removesuffix(".nii.gz").removesuffix("_seg"): path for path in folder.rglob("*.nii.gz")}


def agreement(first: Path, second: Path) -> float:
    """Return the lowest Dice of any label that either map has, 1 when both are empty."""
    a, b = (np.asanyarray(nib.load(path).dataobj).astype(np.int64) for path in (first, second))
    labels = sorted((set(np.unique(a).tolist()) | set(np.unique(b).tolist())) - {0})
    return min(
        (2 * ((a == label) & (b == label)).sum() / ((a == label).sum() + (b == label).sum()) for label in labels),
        default=1.0,
    )


def compare(bundle: Path, images: Path, repeats: int) -> dict[str, Any]:
    commands = {"stock": run_stock, "medssl": run_medssl}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    dice: list[float] = []
    for repeat in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            order = list(commands) if repeat % 2 == 0 else list(commands)[::-1]
            for name in order:
                out = Path(folder) / name
                out.mkdir()
                runs[name].append(timed(commands[name](bundle, images, out), out))
                print(name, {key: round(value, 3) for key, value in runs[name][-1].items()}, flush=True)
            ours, theirs = label_maps(Path(folder) / "medssl"), label_maps(Path(folder) / "stock")
            if ours.keys() != theirs.keys():
                raise SystemExit(f"outputs differ in cases: {sorted(ours.keys() ^ theirs.keys())[:5]}")
            dice += [agreement(ours[case], theirs[case]) for case in ours]
    return summary(runs, dice) | {"provenance": provenance("inference_vs_stock"), "cpus": os.cpu_count()}


def summary(runs: dict[str, list[dict[str, float]]], dice: list[float]) -> dict[str, Any]:
    ratios = [s["seconds_per_case"] / m["seconds_per_case"] for s, m in zip(runs["stock"], runs["medssl"], strict=True)]
    return {
        "runs": runs,
        "speedup_per_case": {"median": statistics.median(ratios), "all": ratios},
        "agreement_dice": {"mean": statistics.mean(dice), "worst": min(dice), "pairs": len(dice)},
    }


def table(result: dict[str, Any]) -> str:
    count = len(result["runs"]["stock"])
    command = f"python tools/bench/inference_vs_stock.py BUNDLE IMAGES --repeats {count} --out {RESULT}"
    lines = ["# Batch inference against stock MONAI", "", f"    {command}", ""]
    lines += ["| | stock monai.bundle | medssl infer |", "|---|---|---|"]
    rows = {"seconds_per_case": "seconds a case", "startup_seconds": "start-up, seconds", "total_seconds": "in all, s"}
    for key, name in rows.items():
        middle = [statistics.median(run[key] for run in result["runs"][who]) for who in ("stock", "medssl")]
        lines.append(f"| {name} (median of {count}) | {middle[0]:.3f} | {middle[1]:.3f} |")
    ratio, dice = result["speedup_per_case"]["median"], result["agreement_dice"]
    lines += [
        "",
        f"Speed-up per case: {ratio:.2f} times (median of the pairs). Agreement of the label maps (lowest Dice of a "
        f"case's labels): mean {dice['mean']:.5f}, worst {dice['worst']:.5f} over {dice['pairs']} pairs.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, required=True, help="path without suffix: .json and .md are written")
    options = parser.parse_args()
    result = compare(options.bundle.resolve(), options.images.resolve(), options.repeats)
    write_json(options.out.with_suffix(".json"), result)
    write_text(options.out.with_suffix(".md"), table(result))
    print(table(result))


if __name__ == "__main__":
    main()
