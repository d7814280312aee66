"""A small hospital (data, bundle, predictions, metrics), all sound, for a fault to be planted in; and its commands."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import typer
from faults.broken_files import write_good_file
from faults.small_dataset import label, save
from inference.tiny_bundle import LABELS, make_tiny_bundle

from medssl.cli.main import app
from medssl.core import exit_codes
from medssl.core.errors import MedsslError

# The case that faults are planted in, by part; the others must come through
VICTIM = {"training": "v1", "test": "v2"}
SHAPE = (12, 10, 8)
AFFINE = np.diag([1.0, 1.5, 2.0, 1.0])

# How commands print a finding: check and train, infer, evaluate, bundle verify
_PRINTED = re.compile(
    r"^(?:error|warning) (\S+) \[|: \[(\S+?)\] |^(?:error|warning): (\S+?):|^(\S+) error:", re.MULTILINE
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a command ended: exit code, the codes of its findings or of its refusal, and what it printed."""

    exit_code: int
    codes: tuple[str, ...]
    text: str

    def __str__(self) -> str:
        return f"{', '.join(self.codes) or 'no finding'}, exit {self.exit_code}"


def attempt(*arguments: str | Path) -> Outcome:
    """Run one command in this process; an exception that is no `MedsslError` is not caught."""
    printed = io.StringIO()
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            code = app([str(word) for word in arguments], standalone_mode=False) or exit_codes.OK
        except typer.Exit as stop:
            code = stop.exit_code
        except MedsslError as error:
            return refused(error)
    found = ["".join(groups) for groups in _PRINTED.findall(printed.getvalue())]
    found += ["no picture"] * ("not shown: case" in printed.getvalue())
    return Outcome(exit_code=code, codes=tuple(dict.fromkeys(found)), text=printed.getvalue())


def refused(error: MedsslError) -> Outcome:
    """Return what the command line makes of an error."""
    return Outcome(
        exit_code=exit_codes.USAGE, codes=(f"refused: {type(error).__name__} {error.code}",), text=str(error)
    )


def attempt_call(function: Callable[[], object]) -> Outcome:
    """Call a function of the library as `attempt` runs a command."""
    try:
        function()
    except MedsslError as error:
        return refused(error)
    return Outcome(exit_code=exit_codes.OK, codes=(), text="")


def make_hospital(folder: Path) -> Path:
    """Write the hospital: data/manifest.json, bundle, predictions (by infer) and metrics (by evaluate)."""
    data = folder / "data"
    data.mkdir(parents=True)
    parts: dict[str, list[dict[str, Any]]] = {"training": [], "validation": [], "test": []}
    names = [("training", "t1"), ("training", "t2"), ("training", "v1"), ("validation", "t3"), ("test", "t4")]
    for seed, (part, name) in enumerate([*names, ("test", "v2")]):
        parts[part].append(_write_case(data, name, seed=seed))
    content = {"name": "hospital", "modality": "MR", "labels": LABELS, **parts}
    (data / "manifest.json").write_text(json.dumps(content), encoding="utf-8")
    make_tiny_bundle(folder / "bundle")
    (folder / "secret.json").write_text('{"secret": 1}', encoding="utf-8")
    write_good_file(folder / "secret.nii.gz")
    for outcome in (infer(folder), evaluate(folder), report(folder)):
        if outcome.exit_code != exit_codes.OK:
            raise RuntimeError(outcome.text)
    return folder


def _write_case(data: Path, name: str, *, seed: int) -> dict[str, Any]:
    """Write a case on the grid of the broken files, so that these have no other fault than their own."""
    write_good_file(data / f"{name}.nii.gz", shape=SHAPE, seed=seed)
    save(data / f"{name}_label.nii.gz", label(SHAPE), AFFINE)
    return {"id": name, "image": f"{name}.nii.gz", "label": f"{name}_label.nii.gz", "patient": f"Doe {name}"}


def check(folder: Path) -> Outcome:
    return attempt("check", folder / "data" / "manifest.json", "--workers", "0")


def train(folder: Path, bundle: str | Path = "hippocampus_mri_supervised") -> Outcome:
    return attempt("train", bundle, "--manifest", folder / "data" / "manifest.json", "--out", folder / "run")


def finetune(folder: Path, bundle: str | Path = "hippocampus_mri_supervised") -> Outcome:
    manifest = folder / "data" / "manifest.json"
    return attempt("finetune", bundle, "--manifest", manifest, "--out", folder / "new_mri_bundle", "--epochs", "1")


def infer(folder: Path, *options: str) -> Outcome:
    inputs = (folder / "data" / "manifest.json", "--part", "test", "--out", folder / "predictions", "--device", "cpu")
    return attempt("infer", folder / "bundle", *inputs, "--workers", "1", *options)


def evaluate(folder: Path) -> Outcome:
    manifest = folder / "data" / "manifest.json"
    return attempt("evaluate", folder / "predictions", "--manifest", manifest, "--out", folder / "metrics")


def report(folder: Path) -> Outcome:
    sources = (folder / "metrics", folder / "predictions", folder / "bundle", folder / "data" / "manifest.json")
    return attempt("report", *sources, "--out", folder / "report.html")


def verify(folder: Path, bundle: Path) -> Outcome:
    return attempt("bundle", "verify", bundle, "--quick")


def info(folder: Path, bundle: Path) -> Outcome:
    return attempt("bundle", "info", bundle)
