"""B23: several processes, started by torchrun and stock MONAI, train and evaluate as one does. Synthetic data."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from medssl.bundle.checks.phantoms import write_phantom_cases
from medssl.bundle.checks.running import (
    bare_network,
    data_places,
    known_overrides,
    one_thread,
    runnable_copy,
    short,
)
from medssl.bundle.checks.subject import Subject, finding
from medssl.bundle.config import walk
from medssl.bundle.resolve import run_workflow, workflow
from medssl.core.findings import Finding
from medssl.networks.weights import read_weights

_TOLERANCE = 1e-6  # of the norm of the weights, and of the loss, which the log rounds to as many digits
_CELLS = 1e-4  # the last digit of MetricsSaver's tables
_TRAINING, _EVALUATING = 2, 3  # processes; one more than the phantoms for validation, so that one is idle
_SECONDS = 600.0
_CHECK = "check_processes"  # name of the file with the overrides, in the copy
_BATCH_NORM = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_ERROR = re.compile(r"^(?:\[rank\d+\]:\s*)?((?:[\w.]+\.)?\w*(?:Error|Exception)\b.*)$", re.MULTILINE)
# Adam turns the rounding noise of a gradient of zero (a bias before a normalisation) into steps of full length
_SGD = {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": 0.05}
_FIX_STEP = "Average a loss that is a mean over samples (no batch=True), and key random acts by the sample's position."
_FIX_TABLE = "Share the cases by medssl.training.CaseSampler and score them by MeanDiceOfCases."


def processes(subject: Subject) -> Iterator[Finding]:
    """B23: the multi-GPU files resolve; two processes take the steps of one; three evaluate as one."""
    if not subject.trains:
        return
    with one_thread(), runnable_copy(subject) as one, runnable_copy(subject) as several:
        manifest = write_phantom_cases(one / "data", subject)
        places = data_places(manifest)
        if "multi_gpu_train" in subject.configs:
            yield from _training(subject, one, several, places)
        if {"evaluate", "multi_gpu_evaluate"} <= subject.configs.keys():
            yield from _evaluation(subject, several, places)


def _training(subject: Subject, one: Path, several: Path, places: Mapping[str, Any]) -> Iterator[Finding]:
    where = "multi_gpu_train.json"
    if "batch_size" not in subject.configs["train"]:
        text = "train.json has no id batch_size, so several processes cannot be compared with one"
        yield finding("B23", where, text, "Give the batch a top-level id batch_size.", severity="warning")
        return
    overrides = {**places, **_comparable(subject)}
    run_workflow(workflow(one, ("train",), overrides={**overrides, "batch_size": _TRAINING}))
    reason = _torchrun(several, ("train", "multi_gpu_train"), {**overrides, "batch_size": 1}, count=_TRAINING)
    if reason:
        text = f"two processes on CPUs (device=cpu, gloo) did not finish two steps: {reason}"
        yield finding("B23", where, text, "Join them by medssl.training.join_processes; see the shipped bundles.")
        return
    if any(isinstance(module, _BATCH_NORM) for module in bare_network(several).modules()):
        text = "batch normalisation sees the samples of its own process, so several differ from one: not compared"
        yield finding("B23", where, text, "Use instance normalisation, or accept it.", severity="warning")
        return
    apart = _distance(one, several)
    if not apart <= _TOLERANCE:
        text = f"after two steps the weights of two processes are {apart:.1e} of their norm from those of one"
        yield finding("B23", where, f"{text}, expected at most {_TOLERANCE:.0e}", _FIX_STEP)
    losses = [_losses(bundle) for bundle in (one, several)]
    if not _close(losses[0], losses[1], _TOLERANCE):
        text = f"expected the losses of one process, {losses[0]}, found {losses[1]} with two"
        yield finding("B23", where, text, _FIX_STEP)


def _evaluation(subject: Subject, bundle: Path, places: Mapping[str, Any]) -> Iterator[Finding]:
    where, files = "multi_gpu_evaluate.json", ("train", "evaluate")
    out = {name: bundle / "results" / name for name in ("one", "several")}
    common = {**places, **known_overrides(subject, {"num_workers": 0})}
    run_workflow(workflow(bundle, files, overrides={**common, "output_dir": str(out["one"])}))
    overrides = {**common, "output_dir": str(out["several"])}
    reason = _torchrun(bundle, (*files, "multi_gpu_evaluate"), overrides, count=_EVALUATING)
    if reason:
        text = f"three processes on CPUs (device=cpu, gloo) did not evaluate two cases: {reason}"
        yield finding("B23", where, text, _FIX_TABLE)
        return
    tables = {name: {path.name: _cells(path) for path in folder.glob("*.csv")} for name, folder in out.items()}
    for name, expected in sorted(tables["one"].items()):
        found = tables["several"].get(name, [])
        if not _close(expected, found, _CELLS):
            text = f"{name}: expected the table of one process with {len(expected)} cells, found another one"
            yield finding("B23", where, f"{text} with {len(found)} cells from three", _FIX_TABLE)


def _comparable(subject: Subject) -> dict[str, Any]:
    """Return overrides under which processes may differ by the order of sums only: float32, no dropout, plain steps."""
    train = subject.configs["train"]
    wished = {"amp": False, "finetune": True, "finetune_minimum_match": 0.0, "optimizer": _SGD}
    dropout = {
        f"network_def#{item_id}": 0.0
        for item_id, value in walk(train.get("network_def", {}))
        if "drop" in item_id.rpartition("#")[2] and isinstance(value, float)
    }
    return {**short(subject, epochs=1, iterations=2), **known_overrides(subject, wished), **dropout}


def _torchrun(bundle: Path, files: Sequence[str], overrides: Mapping[str, Any], *, count: int) -> str | None:
    """Run `monai.bundle run` in `count` processes; return why it failed, or None."""
    content = {**overrides, "bundle_root": str(bundle)}
    (bundle / "configs" / f"{_CHECK}.json").write_text(json.dumps(content), encoding="utf-8")
    names = [f"configs/{name}.json" for name in (*files, _CHECK)]
    # `env` hides the GPUs: with one in sight, ignite gathers through it whatever the device of the run is
    hidden = ["env", "CUDA_VISIBLE_DEVICES=", "OMP_NUM_THREADS=1"]
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
    command = [*hidden, *launch, "-m", "monai.bundle", "run", "--config_file", str(names)]
    process = subprocess.Popen(
        command, cwd=bundle, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, told = process.communicate(timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        # All of them: the workers outlive a launcher that is killed
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        return f"no end within {_SECONDS:.0f} s; processes that wait for one another never end"
    if process.returncode == 0:
        return None
    errors = [line for line in _ERROR.findall(told) if "ChildFailedError" not in line]
    return errors[-1] if errors else f"exit code {process.returncode}"


def _distance(first: Path, second: Path) -> float:
    """Return the norm of the difference of two bundles' weights over the norm of the first; NaN if names differ."""
    weights = [read_weights(bundle / "models" / "model.pt") for bundle in (first, second)]
    if weights[0].keys() != weights[1].keys():
        return math.nan
    flat = [torch.cat([each[name].double().flatten() for name in sorted(each)]) for each in weights]
    return float((flat[0] - flat[1]).norm() / flat[0].norm())


def _losses(bundle: Path) -> list[str]:
    """Return the losses of the training log, as text; empty for a bundle that writes none."""
    path = bundle / "results" / "train_log.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [str(line["loss"]) for line in map(json.loads, lines) if line["kind"] == "train"]


def _cells(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as stream:
        return [cell for row in csv.reader(stream) for cell in row]


def _close(expected: Sequence[str], found: Sequence[str], tolerance: float) -> bool:
    def alike(first: str, second: str) -> bool:
        try:
            return math.isclose(float(first), float(second), rel_tol=tolerance, abs_tol=1.001 * tolerance)
        except ValueError:
            return first == second

    return len(expected) == len(found) and all(
        first == second or alike(first, second) for first, second in zip(expected, found, strict=True)
    )
