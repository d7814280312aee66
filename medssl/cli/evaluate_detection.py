"""The table of `medssl evaluate --task detection`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from medssl.evaluation.detection_summary import DetectionEvaluation

_NAMES = {"auroc": "AUROC (cases)", "ap": "AP (lesions)", "score": "score (mean of both)"}


def show_detections(evaluation: DetectionEvaluation) -> None:
    """Print metrics with intervals, counts, what is not defined and why, and the metrics of each fold."""
    from medssl.evaluation.detection_summary import INTERVAL, POLICY

    for name, estimate in evaluation.metrics.items():
        shown = _NAMES.get(name) or f"sensitivity at {name.removeprefix('sensitivity_at_')} false candidates a case"
        if estimate.value is None:
            typer.echo(f"{shown}: not defined")
        else:
            bounds = "no interval" if estimate.low is None else f"[{estimate.low:.3f}, {estimate.high:.3f}]"
            typer.echo(f"{shown}: {estimate.value:.3f} {bounds}")
    counts = evaluation.counts
    sentence = (
        "{scored} of {cases} cases scored ({failed} failed), {groups} patients: {positive} positive, {negative} "
        "negative; {found} of {lesions} lesions found, {false_candidates} false candidates, "
        "{cases_without_candidate} cases without any; overlap from {overlap:g}."
    )
    typer.echo(sentence.format(**counts, overlap=evaluation.minimum_overlap))
    for statement in evaluation.statements:
        typer.echo(f"Note: {statement}")
    for fold in evaluation.folds:
        values = ", ".join(
            f"{_NAMES[name]} {'not defined' if fold.metrics[name] is None else f'{fold.metrics[name]:.3f}'}"
            for name in _NAMES
        )
        typer.echo(f"fold {fold.fold}: {fold.cases} cases, {fold.positive} positive: {values}")
    typer.echo(f"Policy: {POLICY}")
    typer.echo(f"Intervals: {INTERVAL}")
