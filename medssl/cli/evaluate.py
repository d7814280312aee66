"""`medssl evaluate`: score a folder of segmentations against the references of a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from medssl.core import exit_codes
from medssl.core.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

    from medssl.core.findings import Finding
    from medssl.data.manifest import Manifest, Part
    from medssl.evaluation import Evaluation, Interval
    from medssl.evaluation.classification_summary import ClassEvaluation
    from medssl.evaluation.detection_summary import DetectionEvaluation

_SHOWN_FINDINGS = 20
_PLACES = (3, 2, 3, 3, 1)
_PLAIN_WIDTH = 120  # columns where there is no terminal; rich assumes 80, too few for the table


def evaluate(
    predictions: Annotated[Path, typer.Argument(help="Folder with <case id>.nii.gz, as medssl infer writes it.")],
    *,
    manifest: Annotated[Path, typer.Option(help="Manifest with the reference labels.")],
    task: Annotated[
        str,
        typer.Option(
            help="segmentation, detection (<case id>_detection_map.nii.gz, through picai_eval), or "
            "classification (<case id>_classes.json)."
        ),
    ] = "segmentation",
    part: Annotated[str, typer.Option(help="Part to score: training, validation or test.")] = "test",
    data_root: Annotated[Path | None, typer.Option(help="Folder of the manifest's paths. Default: its own.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for metrics.json and metrics.csv.")] = None,
    tolerance_mm: Annotated[float, typer.Option(help="Distance that counts as agreement in the surface Dice.")] = 1.0,
    minimum_overlap: Annotated[
        float, typer.Option(help="Detection: intersection over union from which a candidate finds a lesion.")
    ] = 0.1,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes. Default: by size, cores and memory.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
) -> int:
    """Score segmentations: Dice, HD95, surface Dice and volume error per class, with intervals over patients.

    With --task detection: AUROC of cases, average precision of lesions, and sensitivity at 0.5, 1 and 2 false
    candidates a case; with --task classification: AUC, F1 and accuracy. Writes metrics.json and metrics.csv into
    --out, or beside the predictions. Nothing is resampled, labels are matched by name, and cases that cannot be
    scored are listed. Exit code 0: all scored; 3: some cases failed; 2: nothing could be scored; 1: usage.
    """
    from medssl.core.files import write_json, write_text
    from medssl.data.manifest import load_manifest
    from medssl.evaluation import evaluate_segmentations

    content = load_manifest(manifest)
    common: dict[str, Any] = {
        "root": data_root or manifest.parent,
        "predictions": predictions,
        "part": _part(part),
        "workers": workers,
        "seed": seed,
    }
    evaluation: Evaluation | DetectionEvaluation | ClassEvaluation
    _require_task(task)
    if task == "detection":
        from medssl.evaluation.detection import evaluate_detections

        evaluation = evaluate_detections(content, minimum_overlap=minimum_overlap, **common)
    elif task == "classification":
        from medssl.evaluation.classification import evaluate_classes

        evaluation = evaluate_classes(content, predictions=predictions, part=common["part"], seed=seed)
    else:
        evaluation = evaluate_segmentations(content, tolerance_mm=tolerance_mm, **common)
    target = out or predictions
    write_json(target / "metrics.json", {"medssl": scored_inputs(content, predictions, part), **evaluation.to_json()})
    write_text(target / "metrics.csv", evaluation.to_csv())
    show_scores(evaluation)
    typer.echo(f"Wrote {target / 'metrics.json'} and {target / 'metrics.csv'}")
    return _exit_code(evaluation)


def show_scores(evaluation: Evaluation | DetectionEvaluation | ClassEvaluation) -> None:
    """Print the table of any kind of evaluation, what was noticed, and how it was made."""
    from medssl.cli.evaluate_classes import show_classes
    from medssl.cli.evaluate_detection import show_detections
    from medssl.evaluation import Evaluation
    from medssl.evaluation.classification_summary import ClassEvaluation

    if isinstance(evaluation, Evaluation):
        show_evaluation(evaluation)
    elif isinstance(evaluation, ClassEvaluation):
        show_classes(evaluation)
        show_noticed(evaluation.findings)
    else:
        show_detections(evaluation)
        show_noticed(evaluation.findings)


def _require_task(task: str) -> None:
    from medssl.core.suggest import did_you_mean

    known = ("segmentation", "detection", "classification")
    if task not in known:
        message = f"--task: expected one of {', '.join(known)}, got {task!r}.{did_you_mean(task, known)}"
        raise ConfigError(message)


def _part(name: str) -> Part:
    from medssl.core.suggest import did_you_mean
    from medssl.data.manifest import PARTS

    for part in PARTS:
        if part == name:
            return part
    message = f"--part: expected one of {', '.join(PARTS)}, got {name!r}.{did_you_mean(name, PARTS)}"
    raise ConfigError(message)


def scored_inputs(manifest: Manifest, predictions: Path, part: str) -> dict[str, Any]:
    """Return the block of metrics.json that says what was scored; `medssl compare` refuses others beside it."""
    from medssl.core.files import sha256_file
    from medssl.core.provenance import provenance
    from medssl.evaluation.predictions import open_predictions

    run = predictions / "run.json"
    inputs = {
        "manifest": {"name": manifest.name, "sha256": manifest.sha256()},
        "part": part,
        "run": {"sha256": sha256_file(run)} if run.is_file() else None,
        "bundle": open_predictions(predictions).bundle,
    }
    return provenance("evaluate", **inputs)


def _exit_code(evaluation: Evaluation | DetectionEvaluation | ClassEvaluation) -> int:
    from medssl.core.findings import has_errors

    if not evaluation.scored:
        return exit_codes.NOTHING_DONE
    return exit_codes.SOME_FAILED if has_errors(evaluation.findings) else exit_codes.OK


def show_evaluation(evaluation: Evaluation) -> None:
    """Print the score table, what was noticed, the policy and how the intervals are made."""
    from rich.console import Console

    from medssl.evaluation.summary import INTERVAL
    from medssl.metrics import POLICY

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    console.print(_table(evaluation))
    console.print(
        f"{len(evaluation.scored)} of {len(evaluation.cases)} cases scored ({len(evaluation.failed)} failed), "
        f"{evaluation.patients} patients; surface Dice at {evaluation.tolerance_mm:g} mm."
    )
    show_noticed(evaluation.findings)
    typer.echo(f"Policy: {POLICY}")
    typer.echo(f"Intervals: {INTERVAL}")


def _table(evaluation: Evaluation) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="mean (n defined cases) and its 95% interval", show_lines=True)
    for heading in ("class", "Dice", "HD95 mm", "NSD", "volume error ml", "volume error %", "states"):
        table.add_column(heading, overflow="fold")
    for name, summary in evaluation.classes.items():
        cells = [_cell(interval, places) for interval, places in zip(summary.metrics.values(), _PLACES, strict=True)]
        if not summary.evaluated:
            cells = ["not evaluated", "", "", "", ""]
        table.add_row(Text(name), *cells, "\n".join(f"{state} {count}" for state, count in summary.counts.items()))
    mean = [_cell(interval, places) for interval, places in zip(evaluation.mean.values(), _PLACES[:3], strict=True)]
    table.add_row("mean of classes", *mean)
    return table


def _cell(interval: Interval, places: int) -> str:
    if interval.mean is None:
        return "undefined (n 0)"
    mean = f"{interval.mean:.{places}f} (n {interval.n})"
    if interval.low is None or interval.high is None:
        return f"{mean}\nno interval"
    return f"{mean}\n[{interval.low:.{places}f}, {interval.high:.{places}f}]"


def show_noticed(findings: tuple[Finding, ...]) -> None:
    """Print the first findings of an evaluation and how many more there are."""
    for finding in findings[:_SHOWN_FINDINGS]:
        case = f" case {finding.case}:" if finding.case else ""
        typer.echo(f"{finding.severity}: {finding.code}:{case} {finding.text} {finding.fix}")
    if len(findings) > _SHOWN_FINDINGS:
        typer.echo(f"… and {len(findings) - _SHOWN_FINDINGS} more findings, all in metrics.json")
