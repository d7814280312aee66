"""Compare runs of several CPU processes (torchrun, gloo) with one process, on phantoms made by code.

.venv/bin/python tools/studies/ddp_equality.py hippocampus_mri_supervised docs/results
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from medssl.bundle.catalog import find_bundle
from medssl.core.files import write_json, write_text
from medssl.core.provenance import provenance

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
from phantoms import write_phantoms

_EPOCHS, _ITERATIONS = 3, 5
_SGD = {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": 0.05}
_SHORT = {"epochs": _EPOCHS, "iterations_per_epoch": _ITERATIONS, "val_interval": 2, "amp": False, "num_workers": 0}
_SHORT |= {"lr_scheduler#kind": "constant", "select_best": False}
# One process that adds up the gradients of two batches of 1 makes the very sums of two processes
_ADDING = {"batch_size": 1, "iterations_per_epoch": 2 * _ITERATIONS}


def launcher(processes: int) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    return ["env", "CUDA_VISIBLE_DEVICES=", "OMP_NUM_THREADS=1", *(torchrun if processes > 1 else [])]


def train_command(bundle: str, manifest: Path, out: Path, *, processes: int, settings: Mapping[str, Any]) -> list[str]:
    values = {**_SHORT, "device": "cpu", "batch_size": 2 // processes, **settings}
    options = [word for key, value in values.items() for word in ("--set", f"{key}={json.dumps(value)}")]
    medssl = [*(["--no-python"] if processes > 1 else []), str(Path(sys.executable).with_name("medssl"))]
    return [*launcher(processes), *medssl, "train", bundle, "--manifest", str(manifest), "--out", str(out), *options]


def call(command: Sequence[str], folder: Path | None = None) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr[-3000:]}")


def evaluate(bundle: Path, manifest: Path, out: Path, *, processes: int) -> dict[str, str]:
    files = ["train", "evaluate", *(["multi_gpu_evaluate"] if processes > 1 else [])]
    values = {"dataset_dir": manifest.parent, "data_list_file_path": manifest, "output_dir": out, "device": "cpu"}
    python = [] if processes > 1 else [sys.executable]
    options = [word for key, value in values.items() for word in (f"--{key}", str(value))]
    configs = str([f"configs/{name}.json" for name in files])
    stock = ["-m", "monai.bundle", "run", "--config_file", configs, "--bundle_root", str(bundle), *options]
    call([*launcher(processes), *python, *stock], bundle)
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(out.glob("*.csv"))}


def weights(run: Path) -> torch.Tensor:
    state = torch.load(run / "models" / "model.pt", weights_only=True)
    return torch.cat([state[name].double().flatten() for name in sorted(state)])


def losses(run: Path) -> list[float]:
    lines = (run / "results" / "train_log.jsonl").read_text(encoding="utf-8").splitlines()
    return [line["loss"] for line in map(json.loads, lines) if line["kind"] == "train"]


def difference(expected: Path, found: Path) -> dict[str, Any]:
    first, second = weights(expected), weights(found)
    return {
        "weights_relative": float((first - second).norm() / first.norm()),
        "loss_largest": max(abs(a - b) for a, b in zip(losses(expected), losses(found), strict=True)),
        "bit_for_bit": bool(torch.equal(first, second)),
    }


def stopped_and_resumed(command: list[str], run: Path) -> dict[str, Any]:
    """Send SIGTERM to torchrun after the first epoch, then give the same command again."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    log = run / "results" / "train_log.jsonl"
    while process.poll() is None and (not log.is_file() or not losses(run)):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    code = process.wait()
    state = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    found = {"exit_code_of_torchrun": code, "saved_at_iteration": state["iteration"], "processes": state["processes"]}
    found["files"] = sorted(path.name for path in (run / "checkpoints").iterdir())
    call(command)
    return found


def with_accumulation(bundle: str, folder: Path) -> str:
    """Copy the bundle with an optimisation that steps after every second batch; an override can only change ids."""
    copy = Path(shutil.copytree(find_bundle(bundle), folder / bundle))
    path = copy / "configs" / "train.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["train"]["optimization"]["accumulation"] = 2
    path.write_text(json.dumps(content), encoding="utf-8")
    return str(copy)


def training(bundle: str, scratch: Path) -> dict[str, Any]:
    manifest = write_phantoms(scratch / "data", training=5, validation=3)
    adding = with_accumulation(bundle, scratch / "adding")
    found: dict[str, Any] = {}
    for name, settings in (("SGD", {"optimizer": _SGD}), ("AdamW", {})):
        one, two, sums = (scratch / f"{name}_{kind}" for kind in ("one", "two", "sums"))
        call(train_command(bundle, manifest, one, processes=1, settings=settings))
        call(train_command(bundle, manifest, two, processes=2, settings=settings))
        call(train_command(adding, manifest, sums, processes=1, settings={**settings, **_ADDING}))
        found[name] = {"batch_of_2": difference(one, two), "two_batches_of_1": difference(sums, two)}
        found[name]["one_process_with_itself"] = difference(one, sums)
    resumed = scratch / "resumed"
    stop = stopped_and_resumed(train_command(bundle, manifest, resumed, processes=2, settings={}), resumed)
    equal = bool(torch.equal(weights(scratch / "AdamW_two"), weights(resumed)))
    return {**found, "stopped_and_resumed": {**stop, "bit_for_bit": equal}}


def evaluations(bundle: str, scratch: Path) -> list[dict[str, Any]]:
    rows = []
    for cases, counts in ((5, (2, 3)), (2, (3,))):
        manifest = write_phantoms(scratch / f"cases_{cases}", training=1, validation=cases)
        expected = evaluate(find_bundle(bundle), manifest, scratch / f"table_{cases}_1", processes=1)
        for count in counts:
            found = evaluate(find_bundle(bundle), manifest, scratch / f"table_{cases}_{count}", processes=count)
            rows.append({"cases": cases, "processes": count, "tables": list(expected), "equal": found == expected})
    return rows


def page(trained: dict[str, Any], evaluated: list[dict[str, Any]], arguments: str) -> str:
    shown = {
        "batch_of_2": "two processes, one process with batch 2",
        "two_batches_of_1": "two processes, one process that adds up two batches of 1",
        "one_process_with_itself": "one process with batch 2, one that adds up two batches of 1",
    }
    rows = "\n".join(
        f"| {name} | {text} | {found['weights_relative']:.1e} | {found['loss_largest']:.1e} |"
        for name in ("SGD", "AdamW")
        for text, found in ((text, trained[name][kind]) for kind, text in shown.items())
    )
    stop = trained["stopped_and_resumed"]
    tables = "\n".join(
        f"| {row['cases']} | {row['processes']} | {'equal' if row['equal'] else 'different'} |" for row in evaluated
    )
    return f"""# Several processes against one

    .venv/bin/python tools/studies/ddp_equality.py {arguments}

torchrun with gloo on CPUs (device=cpu), float32, one thread a process, the shipped network from random weights,
constant learning rate, phantoms made by code (synthetic). No GPU and no nccl took part in this. Versions are in
ddp.json.

## Training: {_EPOCHS * _ITERATIONS} steps, two processes with batch 1

| optimiser | compared | weights: norm of the difference / norm | largest difference of a loss in the log |
|---|---|---|---|
{rows}

The log rounds losses to six digits. The second line of each optimiser compares the same sums in the same order, the
third shows what another order of the sums does within one process: rounding grows from step to step, and AdamW turns
the rounding noise of a gradient of zero (a bias before a normalisation) into steps of full length, which the weights
show and the loss hardly. The tests compare fewer steps of a smaller network, within 1e-6.

## SIGTERM to torchrun during the run, then the same command again, against the undisturbed run of two processes

| | |
|---|---|
| saved at iteration | {stop["saved_at_iteration"]} of {_EPOCHS * _ITERATIONS} |
| files in checkpoints/ | {", ".join(stop["files"])} |
| exit code of torchrun | {stop["exit_code_of_torchrun"]} |
| weights bit for bit equal | {"yes" if stop["bit_for_bit"] else "no"} |

## Evaluation: the files of MetricsSaver, byte for byte against one process

| cases | processes | files |
|---|---|---|
{tables}
"""


def main() -> None:
    bundle, out = sys.argv[1], Path(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        trained = training(bundle, Path(folder))
        evaluated = evaluations(bundle, Path(folder))
    content = {"medssl": provenance("ddp_equality", bundle=bundle), "training": trained, "evaluation": evaluated}
    write_json(out / "ddp.json", content)
    write_text(out / "ddp.md", page(trained, evaluated, f"{bundle} docs/results"))


if __name__ == "__main__":
    main()
