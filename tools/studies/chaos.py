"""Kill batch inference and training at random moments, start them again, compare with undisturbed runs.

python tools/studies/chaos.py SCRATCH docs/results

All images are synthetic, made by code from fixed seeds. A part that SCRATCH already holds the result of is not run
again; training uses one thread, because only then does a CPU repeat it bit for bit.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

from medssl.core.files import sha256_file, write_json, write_text
from medssl.core.provenance import provenance

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from phantoms import write_phantoms

BUNDLE = "hippocampus_mri_supervised"
CASES = 1000
INFER_KILLS = 12
TRAIN_KILLS = 20
TRAIN_SETTINGS = {
    "epochs": 6,
    "iterations_per_epoch": 20,
    "val_interval": 2,
    "patch_size": "[16,16,16]",
    "save_minutes": 0,
    "amp": "false",
}
# One kill in four falls at any moment of this many seconds after the start; the others fall after the first progress
START_SECONDS = 10.0
PATIENCE_SECONDS = 180.0
_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    medssl = str(Path(sys.executable).with_name("medssl"))
    return subprocess.Popen(
        [medssl, *arguments], env=_ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def finish(arguments: list[str]) -> tuple[int, float]:
    """Run a command to its end; return its exit code and its seconds."""
    begin = time.monotonic()
    return start(arguments).wait(timeout=1800), round(time.monotonic() - begin, 1)


def kill_once(
    arguments: list[str],
    *,
    progress: Callable[[], Any],
    sign: signal.Signals,
    rng: random.Random,
    longest_seconds: float,
) -> dict[str, Any]:
    """Start the command and kill it at a random moment; return how it ended and whether it had got on."""
    before = progress()
    process = start(arguments)
    begin = time.monotonic()
    if rng.random() < 0.25:
        moment, kind = begin + rng.uniform(0, START_SECONDS), "any moment of the start"
    else:
        while progress() == before and process.poll() is None and time.monotonic() - begin < PATIENCE_SECONDS:
            time.sleep(0.01)
        moment, kind = time.monotonic() + rng.uniform(0, longest_seconds), "under way"
    while time.monotonic() < moment and process.poll() is None:
        time.sleep(0.005)
    ended_by_itself = process.poll() is not None
    if not ended_by_itself:
        process.send_signal(sign)
    code = process.wait(timeout=PATIENCE_SECONDS)
    if ended_by_itself and code != 0:
        message = f"medssl {' '.join(arguments)} ended by itself with code {code}; run it alone to see why"
        raise RuntimeError(message)
    seconds = round(time.monotonic() - begin, 2)
    return {
        "signal": sign.name,
        "moment": kind,
        "seconds": seconds,
        "exit_code": code,
        "ended_by_itself": ended_by_itself,
    }


def write_images(folder: Path) -> None:
    """Write CASES noisy ellipsoids of 24 x 24 x 24 voxels of 1 mm. Synthetic."""
    folder.mkdir(parents=True, exist_ok=True)
    grid = np.indices((24, 24, 24))
    for number in range(CASES):
        rng = np.random.default_rng(number)
        centre, axes = rng.uniform(9, 15, (3, 1, 1, 1)), rng.uniform(4, 9, (3, 1, 1, 1))
        inside = (((grid - centre) / axes) ** 2).sum(0) < 1
        voxels = (400 + 300 * inside + rng.normal(0, 40, inside.shape)).astype(np.int16)
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), folder / f"case_{number:04}.nii.gz")


def label_maps(folder: Path) -> dict[str, bytes | None]:
    """Load every final label map; None stands for one that cannot be loaded."""
    found: dict[str, bytes | None] = {}
    for path in folder.glob("case_*.nii.gz"):
        try:
            found[path.name] = np.asanyarray(nib.load(path).dataobj).tobytes()
        except Exception:  # whatever is wrong with it, it is what this study looks for
            found[path.name] = None
    return found


def json_is_whole(path: Path) -> bool:
    try:
        json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return True  # not written yet
    except ValueError:
        return False
    return True


def leftovers(folder: Path) -> int:
    return len(list(folder.rglob(".tmp-*")))


def chaos_infer(scratch: Path) -> dict[str, Any]:
    """Kill `medssl infer` over CASES images INFER_KILLS times."""
    images, calm, wild = scratch / "images", scratch / "infer_undisturbed", scratch / "infer_disturbed"
    write_images(images)
    exit_code, calm_seconds = finish(["infer", BUNDLE, str(images), "--out", str(calm)])
    expected = label_maps(calm)
    command = ["infer", BUNDLE, str(images), "--out", str(wild)]
    rng, kills = random.Random(1), []
    for _ in range(INFER_KILLS):
        kill = kill_once(
            command,
            progress=lambda: len(list(wild.glob("case_*.nii.gz"))),
            sign=signal.SIGKILL,
            rng=rng,
            longest_seconds=1.5 * calm_seconds / INFER_KILLS,
        )
        found = label_maps(wild)
        kills.append(
            kill
            | {
                "final_files": len(found),
                "of_these_unreadable": sum(voxels is None for voxels in found.values()),
                "of_these_different": sum(expected[name] != voxels for name, voxels in found.items()),
                "run_json_whole": json_is_whole(wild / "run.json"),
                "leftovers": leftovers(wild),
            }
        )
    last_code, last_seconds = finish(command)
    record = json.loads((wild / "run.json").read_text(encoding="utf-8"))
    return {
        "cases": CASES,
        "undisturbed": {"exit_code": exit_code, "seconds": calm_seconds, "label_maps": len(expected)},
        "kills": kills,
        "last_run": {"exit_code": last_code, "seconds": last_seconds},
        "states": dict(Counter(case["state"] for case in record["cases"])),
        "run_json_finished": record["finished"] is not None,
        "leftovers_at_the_end": leftovers(wild) + (wild / "run.cases.jsonl").exists(),
        "voxels_equal": label_maps(wild) == expected,
    }


def broken_tensors(run: Path) -> list[str]:
    """Name the tensor files of a run that do not load."""
    broken = []
    for path in (run / "models" / "model.pt", run / "checkpoints" / "last.pt"):
        try:
            if path.exists():
                torch.load(path, weights_only=True, map_location="cpu")
        except Exception:  # whatever is wrong with it, it is what this study looks for
            broken.append(path.name)
    return broken


def chaos_train(scratch: Path) -> dict[str, Any]:
    """Kill `medssl train` of the shipped bundle TRAIN_KILLS times."""
    manifest = write_phantoms(scratch / "phantoms", training=4, validation=2)
    settings = [word for name, value in TRAIN_SETTINGS.items() for word in ("--set", f"{name}={value}")]
    calm, wild = scratch / "train_undisturbed", scratch / "train_disturbed"
    common = ["train", BUNDLE, "--manifest", str(manifest), *settings]
    exit_code, calm_seconds = finish([*common, "--out", str(calm)])
    command, rng, kills = [*common, "--out", str(wild)], random.Random(2), []
    last = wild / "checkpoints" / "last.pt"
    while len(kills) < TRAIN_KILLS:
        kill = kill_once(
            command,
            progress=lambda: last.stat().st_mtime_ns if last.exists() else 0,
            sign=rng.choice([signal.SIGKILL, signal.SIGTERM]),
            rng=rng,
            longest_seconds=calm_seconds / (1.5 * TRAIN_KILLS),
        )
        iteration = torch.load(last, weights_only=True)["iteration"] if last.exists() else 0
        whole = all(json_is_whole(path) for path in wild.rglob("*.json"))
        kills.append(kill | {"iteration": iteration, "broken": broken_tensors(wild), "json_whole": whole})
    last_code, last_seconds = finish(command)
    pair = [torch.load(run / "models" / "model.pt", weights_only=True) for run in (calm, wild)]
    return {
        "settings": TRAIN_SETTINGS,
        "undisturbed": {"exit_code": exit_code, "seconds": calm_seconds},
        "kills": kills,
        "last_run": {"exit_code": last_code, "seconds": last_seconds},
        "leftovers_at_the_end": leftovers(wild),
        "run_json_written": (wild / "results" / "run.json").is_file(),
        "tensors_equal": all(torch.equal(pair[0][name], pair[1][name]) for name in pair[0] | pair[1]),
        "files_equal": sha256_file(calm / "models" / "model.pt") == sha256_file(wild / "models" / "model.pt"),
    }


def table(kills: list[dict[str, Any]]) -> str:
    names = list(kills[0])
    rows = [names, ["---"] * len(names), *([str(kill[name]) for name in names] for kill in kills)]
    return "\n".join("| " + " | ".join(cell.replace("_", " ") for cell in row) + " |" for row in rows)


def facts(result: dict[str, Any]) -> str:
    rows = [f"| {name.replace('_', ' ')} | {value} |" for name, value in result.items() if name != "kills"]
    return "\n".join(["| | |", "|---|---|", *rows])


def page(infer: dict[str, Any], train: dict[str, Any]) -> str:
    return f"""# Killed at random

    python tools/studies/chaos.py SCRATCH docs/results

All images are synthetic, made by code. After every kill each file under a final name was loaded. Seconds are those of
a machine with two cores that was busy with other work.

## Batch inference: {infer["cases"]} volumes of 24 x 24 x 24 voxels, {len(infer["kills"])} kills

{facts(infer)}

{table(infer["kills"])}

## Training of {BUNDLE} on six phantoms: {len(train["kills"])} kills

Every iteration saved its state. Exit code 143: stopped by SIGTERM in order; -15 and -9: ended by the signal itself.

{facts(train)}

{table(train["kills"])}
"""


def main() -> None:
    scratch, out = Path(sys.argv[1]), Path(sys.argv[2])
    results = {}
    for name, run in (("infer", chaos_infer), ("train", chaos_train)):
        kept = scratch / f"{name}.json"
        if not kept.is_file():
            write_json(kept, run(scratch))
        results[name] = json.loads(kept.read_text(encoding="utf-8"))
    write_json(out / "chaos.json", {"medssl": provenance("chaos", bundle=BUNDLE), **results})
    write_text(out / "chaos.md", page(results["infer"], results["train"]))


if __name__ == "__main__":
    main()
