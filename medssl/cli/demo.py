"""`medssl demo`: the whole way on real volumes without a download, with the commands a user would type."""

from __future__ import annotations

import json
import shlex
import time
from pathlib import Path
from typing import Annotated

import typer

from medssl.core import exit_codes

_BUNDLE = "hippocampus_mri_supervised"
_EPOCHS = 8
_STEPS_PER_EPOCH = 50
# All blocks come from one volume, so a grey value means the same in each of them
_SAME_SCALE = ("--absolute-intensities", "--norm", "batch", "--patch-voxels", "40000")


def demo(
    out: Annotated[Path, typer.Option(help="Folder to work in; a finished step in it is not done again.")] = Path(
        "demo"
    ),
    epochs: Annotated[int, typer.Option(min=1, help=f"Epochs of {_STEPS_PER_EPOCH} steps.")] = _EPOCHS,
) -> int:
    """Fine-tune a bundle on blocks of a brain template, segment, score and report, in a few minutes on two cores.

    The back of one hemisphere is learned from, the front is tested on; beside the network's Dice stands what two
    intensity thresholds reach.
    """
    from medssl.cli.main import run
    from medssl.data.template import threshold_yardstick, write_blocks

    started = time.monotonic()
    typer.echo(f"Cutting blocks from the ICBM 152 template into {out / 'data'}")
    manifest = write_blocks(out / "data")
    for arguments in commands(out, epochs=epochs):
        typer.echo(f"\n$ medssl {shlex.join(arguments)}")
        code = run(arguments)
        if code != exit_codes.OK:
            typer.echo(f"the demo stops here: medssl {arguments[0]} ended with exit code {code}.", err=True)
            return code
    _show(network_dice(out / "metrics" / "metrics.json"), threshold_yardstick(out / "data", manifest))
    typer.echo(f"\nDone in {time.monotonic() - started:.0f} s. Open {(out / 'report.html').resolve()}")
    return exit_codes.OK


def commands(out: Path, *, epochs: int) -> list[list[str]]:
    """Return the arguments of each command of the demo, in order."""
    data, bundle, predictions, metrics = (
        str(out / name) for name in ("data", "template_mri_tissues", "predictions", "metrics")
    )
    manifest, whole = f"{data}/manifest.json", f"{data}/whole.json"
    # Two validations are enough to see that it learns; without AMX, bfloat16 takes a CPU half again as long as float32.
    # The rate is that of a new task: other tissue, other labels
    settings = {
        "epochs": str(epochs),
        "iterations_per_epoch": str(_STEPS_PER_EPOCH),
        "learning_rate": "0.002",
        "val_interval": str(max(1, epochs // 2)),
        "amp": "false",
    }
    overrides = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    report = ["report", metrics, predictions, bundle, manifest, whole, "--title", "medssl demo"]
    return [
        ["check", manifest],
        ["finetune", _BUNDLE, "--manifest", manifest, "--out", bundle, *_SAME_SCALE, *overrides],
        ["infer", bundle, manifest, whole, "--part", "test", "--out", predictions],
        ["evaluate", predictions, "--manifest", manifest, "--out", metrics],
        [*report, "--viewers", "--out", str(out / "report.html")],
    ]


def network_dice(metrics: Path) -> dict[str, float]:
    """Read the mean Dice of each tissue from metrics.json."""
    summary = json.loads(metrics.read_text(encoding="utf-8"))["summary"]
    return {name: entry["dice"]["mean"] for name, entry in summary.items() if name != "mean"}


def _show(network: dict[str, float], thresholds: dict[str, float]) -> None:
    width = max(len(name) for name in thresholds)
    typer.echo(f"\nDice on the test blocks\n{'':{width}}  network  two thresholds")
    for name, yardstick in thresholds.items():
        typer.echo(f"{name:{width}}  {network[name]:7.3f}  {yardstick:14.3f}")
