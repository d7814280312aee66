"""`medssl infer`: segment or classify images with a bundle."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from medssl.core import exit_codes

_SHOWN_UNCERTAIN = 5


def infer(
    bundle: Annotated[str, typer.Argument(help="Bundle folder, or the name of a shipped bundle.")],
    inputs: Annotated[
        list[str], typer.Argument(metavar="INPUT...", help="Image files, folders, patterns, or manifests (.json).")
    ],
    *,
    out: Annotated[Path, typer.Option(help="Output folder; holds the label maps and run.json.")],
    part: Annotated[str | None, typer.Option(help="Only this part of the manifests, such as test.")] = None,
    data_root: Annotated[Path | None, typer.Option(help="Folder the manifest's paths start from.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    batch_size: Annotated[int | None, typer.Option(help="Tiles at once; default: the bundle's, 1 on a CPU.")] = None,
    overlap: Annotated[float | None, typer.Option(help="Share that neighbouring tiles share.")] = None,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="Also write all probabilities.")] = False,
    uncertainty: Annotated[
        bool, typer.Option("--uncertainty", help="Also write maps of disagreement and variance, and one number a case.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Compute finished cases again.")] = False,
    workers: Annotated[int | None, typer.Option(help="Tiles side by side on a CPU; default: one a core.")] = None,
    time_limit: Annotated[float, typer.Option(help="Seconds after which a case that hangs is given up.")] = 3600.0,
    trust: Annotated[bool, typer.Option("--trust", help="Run code that bundles do not need.")] = False,
) -> int:
    """Segment every INPUT with BUNDLE and write the label maps on the grid of the images.

    Bundles that detect lesions also write <id>_lesion_probability.nii.gz and <id>_detection_map.nii.gz, and for
    imported prostate exams both on the grid of the T2W; one that classifies 2D images writes <case id>_classes.json and
    predictions.csv instead. The same command continues a run that was stopped: cases whose input, weights and output
    are unchanged are kept.
    """
    started = time.monotonic()
    from medssl.bundle.catalog import classifies, find_bundle
    from medssl.data.images import IMAGE_SUFFIXES
    from medssl.inference.batch import exit_code, run_batch
    from medssl.inference.cases import SUFFIXES, gather_cases
    from medssl.inference.classes import classify_batch

    folder = find_bundle(bundle)
    flat = classifies(folder)
    suffixes = IMAGE_SUFFIXES if flat else SUFFIXES
    cases = gather_cases(inputs, part=part, data_root=data_root, outside=out, suffixes=suffixes)
    if not cases:
        typer.echo("error: the inputs hold no case. Check --part and the manifest.", err=True)
        return exit_codes.NOTHING_DONE
    loading: dict[str, Any] = {"device": device, "batch_size": batch_size, "trust": trust}
    options: dict[str, Any] = {"skip_finished": not overwrite}
    if flat:
        _refuse_options(overlap=overlap, probabilities=probabilities, uncertainty=uncertainty, workers=workers)
    else:
        loading |= {"overlap": overlap, "workers": workers, "uncertainty": uncertainty}
        options |= {"probabilities": probabilities, "stall_seconds": time_limit}
    run = classify_batch if flat else run_batch
    with _stop_on_sigterm(), _loaded(folder, flat, loading) as predictor, _case_lines(len(cases)) as show:
        typer.echo(predictor.describe())
        records = run(predictor, cases, out, **options, startup_seconds=time.monotonic() - started, on_case=show)
    _summarise(records, out)
    return exit_code(records)


def _loaded(bundle: Path, flat: bool, options: dict[str, Any]) -> AbstractContextManager[Any]:
    """Return the predictor of a bundle, to be used in a `with` block."""
    if flat:
        from medssl.bundle.classifier import load_classifier

        return nullcontext(load_classifier(bundle, **options))
    from medssl.bundle.predictor import load_predictor

    return load_predictor(bundle, **options)


def _refuse_options(**given: Any) -> None:
    """Refuse what only a segmenting bundle does.

    Raises:
        ConfigError: If any was asked for.
    """
    from medssl.core.errors import ConfigError

    wrong = [name for name, value in given.items() if value]
    if wrong:
        message = f"--{wrong[0]}: expected a bundle that segments, found one that classifies images. Leave it out."
        raise ConfigError(message)


def _summarise(records: list[dict[str, Any]], out: Path) -> None:
    counts = {state: sum(record["state"] == state for record in records) for state in ("done", "skipped", "failed")}
    typer.echo(", ".join(f"{count} {state}" for state, count in counts.items()) + f": {out / 'run.json'}")
    _show_uncertain([record for record in records if record.get("uncertainty")])
    for record in records:
        if record["finding"]:
            finding = record["finding"]
            typer.echo(f"  {record['id']}: [{finding['code']}] {finding['text']} {finding['fix']}", err=True)


def _show_uncertain(records: list[dict[str, Any]]) -> None:
    from medssl.reports.uncertainty import telling_measure

    measure = telling_measure(records)
    for record in sorted(records, key=lambda record: -record["uncertainty"][measure])[:_SHOWN_UNCERTAIN]:
        typer.echo(f"  look at {record['id']}: {measure} {record['uncertainty'][measure]:.4f}")


@contextmanager
def _stop_on_sigterm() -> Iterator[None]:
    """Turn SIGTERM into an orderly end: files under way are finished or removed, and the record is written."""

    def stop(_signal: int, _frame: FrameType | None) -> None:
        raise typer.Exit(exit_codes.STOPPED)

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread: whoever started it handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _case_lines(total: int) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield what shows each finished case: a bar with the remaining time on a terminal, plain lines elsewhere."""
    from rich.console import Console

    console = Console()
    if not console.is_terminal:
        numbers = iter(range(1, total + 1))
        yield lambda record: typer.echo(f"{next(numbers)}/{total} {_line(record)}")
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("cases", total=total)

        def advance(record: dict[str, Any]) -> None:
            progress.update(task, advance=1, description=record["id"])
            if record["state"] == "failed":
                progress.console.print(_line(record), markup=False)

        yield advance


def _line(record: dict[str, Any]) -> str:
    seconds = record["seconds"].get("total", 0.0)
    code = f" [{record['finding']['code']}]" if record["finding"] else ""
    return f"{record['id']}: {record['state']}{code} {seconds:.2f} s"
