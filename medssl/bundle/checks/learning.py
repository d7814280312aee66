"""B19, B20, B21: a few steps of training on phantoms, an interruption, and an evaluation. Synthetic data."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events

from medssl.bundle.checks.phantoms import write_phantom_cases
from medssl.bundle.checks.running import data_places, known_overrides, one_thread, runnable_copy, short
from medssl.bundle.checks.subject import Subject, finding
from medssl.bundle.predictor import load_predictor
from medssl.bundle.resolve import run_workflow, workflow
from medssl.core import exit_codes
from medssl.core.errors import TrainingError
from medssl.core.findings import Finding
from medssl.data.manifest import load_manifest
from medssl.evaluation import evaluate_segmentations
from medssl.inference.batch import run_batch
from medssl.inference.cases import gather_cases
from medssl.networks.weights import StateDict, read_weights

_GUARD_ITERATIONS = 12
# Of 4 iterations: in the second stage of a bundle whose run has two halves, and with a resumed step behind it
_STOP_AT = 3


def training(subject: Subject) -> Iterator[Finding]:
    """B19: two steps with and without unlabelled data; a planted NaN stops the run instead of ruining weights."""
    if not subject.trains:
        return
    kinds = [False, True] if "unlabeled" in subject.configs["train"] else [False]
    for unlabeled in kinds:
        with runnable_copy(subject) as bundle:
            manifest = write_phantom_cases(bundle / "data", subject, unlabeled=unlabeled)
            before = read_weights(bundle / "models" / "model.pt")
            _run(bundle, manifest, short(subject, epochs=1, iterations=2))
            yield from _weights_findings(before, read_weights(bundle / "models" / "model.pt"), unlabeled=unlabeled)
    with runnable_copy(subject) as bundle:
        manifest = write_phantom_cases(bundle / "data", subject, broken=True)
        before = read_weights(bundle / "models" / "model.pt")
        try:
            _run(bundle, manifest, short(subject, epochs=1, iterations=_GUARD_ITERATIONS))
        except TrainingError:
            return
        text = f"{_GUARD_ITERATIONS} steps on images of NaN ended as if nothing were wrong"
        yield finding("B19", "train.json, train#step", text, "Update the weights through medssl.training.Optimization.")


def interruption(subject: Subject) -> Iterator[Finding]:
    """B20: a run stopped by SIGTERM and resumed gives the weights of the undisturbed run, bit for bit."""
    if not subject.trains:
        return
    if threading.current_thread() is not threading.main_thread():
        text = "signals reach the main thread only, so this check did not run"
        yield finding("B20", "train.json", text, "Verify from the main thread.", severity="warning")
        return
    overrides = short(subject, epochs=2, iterations=2)
    with one_thread(), runnable_copy(subject) as whole, runnable_copy(subject) as parts:
        # Where unlabelled cases are learned from, the stages that do so are resumed too
        unlabeled = "unlabeled" in subject.configs["train"]
        _run(whole, write_phantom_cases(whole / "data", subject, unlabeled=unlabeled), overrides)
        manifest = write_phantom_cases(parts / "data", subject, unlabeled=unlabeled)
        if not _stopped_run(parts, manifest, overrides):
            text = "SIGTERM did not end the run with a resume file and exit code 143"
            yield finding("B20", "train.json, train#handlers", text, "Add medssl.training.ResumeHandler.")
            return
        _run(parts, manifest, overrides)
        different = _different(*(read_weights(bundle / "models" / "model.pt") for bundle in (whole, parts)))
        if different:
            text = f"interrupted and resumed, {len(different)} tensors differ, the first is {different[0]}"
            yield finding("B20", "train.json", text, "Let every random act take its position from the sampler.")


def evaluation(subject: Subject) -> Iterator[Finding]:
    """B21: evaluate.json runs, and `medssl evaluate` counts missed, false and absent structures of each class."""
    if not (subject.trains and "evaluate" in subject.configs):
        return
    with runnable_copy(subject) as bundle:
        manifest = write_phantom_cases(bundle / "data", subject, leave_out_last=True)
        overrides = known_overrides(subject, {"num_workers": 0}) | data_places(manifest)
        run_workflow(workflow(bundle, ("train", "evaluate"), overrides=overrides))
        if not list((bundle / "results").glob("*.csv")):
            yield finding("B21", "evaluate.json", "the run leaves no table of metrics", "Add MetricsSaver.")
        yield from _count_findings(bundle, manifest)


def _run(bundle: Path, manifest: Path, overrides: Mapping[str, Any]) -> None:
    run_workflow(workflow(bundle, ("train",), overrides={**overrides, **data_places(manifest)}))


def _stopped_run(bundle: Path, manifest: Path, overrides: Mapping[str, Any]) -> bool:
    """Send SIGTERM to this process during a run; tell whether the run took it as the order to save and end."""
    flow = workflow(bundle, ("train",), overrides={**overrides, **data_places(manifest)})
    flow.initialize()
    trainer = flow.parser.get_parsed_content("train#trainer")
    trainer.add_event_handler(Events.ITERATION_STARTED(once=_STOP_AT), lambda: os.kill(os.getpid(), signal.SIGTERM))
    unheard: list[int] = []
    # Without a handler of the bundle's own the signal would end the verification itself
    previous = signal.signal(signal.SIGTERM, lambda number, frame: unheard.append(number))
    try:
        flow.run()
    except SystemExit as stop:
        return stop.code == exit_codes.STOPPED and not unheard and (bundle / "checkpoints" / "last.pt").is_file()
    finally:
        signal.signal(signal.SIGTERM, previous)
    return False


def _weights_findings(before: StateDict, after: StateDict, *, unlabeled: bool) -> Iterator[Finding]:
    where = f"train.json, {'with' if unlabeled else 'without'} unlabelled cases"
    if before.keys() == after.keys() and not _different(before, after):
        yield finding("B19", where, "two steps left every weight as it was", "Give the optimiser the parameters.")
    broken = [name for name, tensor in after.items() if not torch.isfinite(tensor.float()).all()]
    if broken:
        yield finding("B19", where, f"{len(broken)} tensors are not finite after two steps", "Lower the rate.")


def _count_findings(bundle: Path, manifest: Path) -> Iterator[Finding]:
    predictions = bundle / "predictions"
    cases = gather_cases([manifest], part="validation")
    with load_predictor(bundle, device="cpu", workers=1) as predictor:
        run_batch(predictor, cases, predictions)
    scored = evaluate_segmentations(
        load_manifest(manifest), root=manifest.parent, predictions=predictions, part="validation", workers=1
    )
    for name, summary in scored.classes.items():
        if sum(summary.counts.values()) != len(cases) or {"missed", "false", "absent"} - summary.counts.keys():
            text = f"{name}: expected counts of missed, false and absent in {len(cases)} cases, found {summary.counts}"
            yield finding("B21", "medssl evaluate", text, "Report this as a defect of medssl.")


def _different(first: StateDict, second: StateDict) -> list[str]:
    return [name for name in first if name not in second or not torch.equal(first[name], second[name])]
