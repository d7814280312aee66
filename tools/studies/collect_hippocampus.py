"""Gather the yardstick's scores into docs/results/hippocampus.md and .json.

python tools/studies/collect_hippocampus.py runs docs/results
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from medssl.core.files import write_json, write_text

_COUNTS = (1, 2, 4, 20, 130)
_CLASSES = ("anterior", "posterior", "mean")


def read(runs: Path, count: int) -> dict[str, Any] | None:
    """Return settings and test scores of one run, or None if it is not there."""
    folder = runs / f"hippocampus_{count}"
    metrics = folder / "test" / "scores" / "metrics.json"
    if not metrics.is_file():
        return None
    scores, record = json.loads(metrics.read_text()), json.loads((folder / "test" / "run.json").read_text())
    found = {
        "labelled": count,
        "summary": scores["summary"],
        "counts": scores["counts"],
        "weights_sha256": record["bundle"]["weights_sha256"],
    }
    return found | training(folder)


def training(folder: Path) -> dict[str, Any]:
    """Return what a run's own records say of its training; empty where only the shipped weights were scored."""
    if not (folder / "results" / "run.json").is_file():
        return {}
    run = json.loads((folder / "results" / "run.json").read_text())
    log = [json.loads(line) for line in (folder / "results" / "train_log.jsonl").read_text().splitlines()]
    waits = [line["wait_share"] for line in log if line["kind"] == "train"]
    return {
        "training_seconds": run["seconds"],
        "training_peak_memory_bytes": run["peak_memory_bytes"],
        "wait_share": sum(waits) / len(waits),
        "overrides": run["inputs"]["overrides"],
        "manifest_sha256": run["inputs"]["manifest"],
        "versions": run["versions"],
    }


def interval(values: dict[str, Any], places: int = 3) -> str:
    """Write a mean with its interval."""
    return f"{values['mean']:.{places}f} [{values['low']:.{places}f}, {values['high']:.{places}f}]"


def table(rows: list[dict[str, Any]]) -> str:
    """Return the table in Markdown."""
    head = "| labelled | Dice anterior | Dice posterior | Dice mean | HD95 mm, mean | NSD 1 mm, mean | training s |"
    lines = [head, "|" + "---|" * 7]
    for row in rows:
        dice = " | ".join(interval(row["summary"][name]["dice"]) for name in _CLASSES)
        mean = row["summary"]["mean"]
        lines.append(
            f"| {row['labelled']} | {dice} | {interval(mean['hd95_mm'], 2)} | {interval(mean['nsd'])} "
            f"| {row['training_seconds']:.0f} |"
            if "training_seconds" in row
            else f"| {row['labelled']} (shipped weights) | {dice} | {interval(mean['hd95_mm'], 2)} "
            f"| {interval(mean['nsd'])} | not kept |"
        )
    return "\n".join(lines)


def main() -> None:
    runs, out = Path(sys.argv[1]), Path(sys.argv[2])
    rows = [row for count in _COUNTS if (row := read(runs, count)) is not None]
    write_json(out / "hippocampus.json", rows)
    text = (Path(__file__).with_name("hippocampus.template.md")).read_text()
    waits = ", ".join(f"{row['wait_share']:.1%} ({row['labelled']})" for row in rows if "wait_share" in row)
    write_text(out / "hippocampus.md", text.replace("{table}", table(rows)).replace("{waits}", waits))


if __name__ == "__main__":
    main()
