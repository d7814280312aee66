"""Train and run bundles for a moment on this machine's device, in float32 and in mixed precision, side by side.

    python tools/bench/bundles_on_device.py --out docs/results/bundles_on_device \
        --case hippocampus_mri_umct data_manifests/hippocampus_labelled4_draw0.json DATA

For each bundle and precision: whether every loss is finite, seconds a step (median over epochs behind the first), peak
memory of the device, and seconds a case of inference over a part. It is what a first look at a new
GPU needs; on a CPU it runs too, only without the memory.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import shutil
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from medssl.bundle.catalog import find_bundle
from medssl.bundle.pretrain import pretrain, stage_names
from medssl.bundle.run import train
from medssl.cli.main import run as medssl
from medssl.core.files import write_json, write_text
from medssl.core.provenance import provenance

Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", nargs=3, action="append", required=True, metavar=("BUNDLE", "MANIFEST", "ROOT"))
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--iterations", type=int, default=10, help="of an epoch")
    parser.add_argument("--part", default="validation")
    parser.add_argument("--precision", choices=["float32", "mixed"], nargs="+", default=["float32", "mixed"])
    parser.add_argument("--num-workers", type=int, help="Processes that load, instead of the bundle's; 0: this one.")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rows: list[Row] = []
    for name, manifest, root in options.case:
        for precision in options.precision:
            rows += measured(name, Path(manifest), Path(root), amp=precision == "mixed", options=options)
            print(json.dumps(rows[-1]), flush=True)
    machine = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {platform.machine()}"
    result = {**provenance("bundles_on_device"), "device": machine, "rows": rows}
    result["loading"] = "" if options.num_workers is None else f", by {options.num_workers or 'no'} processes beside"
    write_json(options.out.with_suffix(".json"), result)
    write_text(options.out.with_suffix(".md"), page(result))


def measured(name: str, manifest: Path, root: Path, *, amp: bool, options: argparse.Namespace) -> list[Row]:
    """Return a row for each stage of a bundle: pre-trainings, training, inference."""
    bundle = find_bundle(name)
    length = {"epochs": options.epochs, "iterations_per_epoch": options.iterations, "amp": amp}
    length |= {} if options.num_workers is None else {"num_workers": options.num_workers}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / bundle.name
        shared = {"manifest": manifest, "data_root": root}
        for stage in stage_names(bundle) if any((bundle / "configs").glob("pretrain*.json")) else ():
            rows.append(_timed(f"{bundle.name}, {stage}", amp, out / "results" / stage))
            _run(rows[-1], lambda stage=stage: pretrain(bundle, out=out, stages=[stage], overrides=length, **shared))
        whole = {**length, "val_interval": options.epochs + 1, "select_best": False}
        rows.append(_timed(f"{bundle.name}, train", amp, out / "results"))
        source = out if (out / "models" / "encoder.pt").is_file() else bundle
        run = Path(folder) / "run" / bundle.name
        rows[-1]["log"] = run / "results"
        _run(rows[-1], lambda: train(source, out=run, overrides=whole, **shared))
        rows.append(_inference(run, manifest, root, amp=amp, options=options))
        shutil.rmtree(folder, ignore_errors=True)
    return rows


def _timed(what: str, amp: bool, log: Path) -> Row:
    return {"what": what, "precision": "mixed" if amp else "float32", "log": log}


def _run(row: Row, work: Any) -> None:
    """Do one training and put what it cost into its row; an error is a result too."""
    log = row.pop("log")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        work()
    except Exception as error:  # a stage that fails, such as for want of memory, is a result
        row["error"] = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        return
    lines = [json.loads(line) for line in (log / "train_log.jsonl").read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if line["kind"] == "train"]
    row["dtype"] = lines[0]["precision"]
    row["finite"] = all(math.isfinite(line["loss"]) for line in steps)
    row["skipped"] = steps[-1]["skipped"]
    warm = [line for line in steps if line["epoch"] > 1]
    row["seconds"] = statistics.median([line["step_seconds"] for line in warm] or [math.nan])
    row["waiting"] = statistics.median([line["wait_share"] for line in warm] or [math.nan])
    row["peak_memory_bytes"] = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None


def _inference(run: Path, manifest: Path, root: Path, *, amp: bool, options: argparse.Namespace) -> Row:
    row: Row = {"what": f"{run.name}, a case of inference", "precision": "mixed" if amp else "float32"}
    if not (run / "models" / "model.pt").is_file():
        return row | {"error": "not trained"}
    settings = run / "configs" / "inference.json"
    write_json(settings, {**json.loads(settings.read_text(encoding="utf-8")), "amp": amp})
    command = ["infer", str(run), str(manifest), "--data-root", str(root), "--part", options.part]
    code = medssl([*command, "--out", str(run / "predictions")])
    record = json.loads((run / "predictions" / "run.json").read_text(encoding="utf-8")) if code in (0, 3) else {}
    done = [case for case in record.get("cases", ()) if case["state"] == "done"]
    if code or not done:
        return row | {"error": f"medssl infer ended with code {code}"}
    row["seconds"] = statistics.median(case["seconds"].get("network", case["seconds"]["total"]) for case in done)
    return row | {"finite": True, "peak_memory_bytes": record.get("peak_gpu_memory_bytes")}


def page(result: dict[str, Any]) -> str:
    lines = []
    for row in result["rows"]:
        if "error" in row:
            lines.append(f"| {row['what']} | {row['precision']} | {row['error']} | | | |")
            continue
        memory = f"{row['peak_memory_bytes'] / 2**20:.0f}" if row["peak_memory_bytes"] else ""
        waiting = f"{row['waiting']:.0%}" if "waiting" in row else ""
        cells = [row["what"], row.get("dtype", row["precision"]), f"{row['seconds']:.4f}", waiting, memory]
        lines.append(f"| {' | '.join(cells)} | {'yes' if row['finite'] else '**no**'} |")
    body = "\n".join(lines)
    return f"""# Bundles on {result["device"]}

Seconds are medians: of a training step behind the first epoch, of the network's part of a case. Waiting is the share of
a step that went by until its batch was loaded{result["loading"]}. Memory is the peak of the device, MiB.

| what | precision | seconds | waiting | memory | finite |
|---|---|---|---|---|---|
{body}
"""


if __name__ == "__main__":
    main()
