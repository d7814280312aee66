"""The table of `medssl evaluate --task classification`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from medssl.evaluation.classification_summary import ClassEvaluation

_NAMES = {"auc": "AUC", "f1": "F1", "accuracy": "accuracy"}


def show_classes(evaluation: ClassEvaluation) -> None:
    """Print metrics with intervals, counts, and true against predicted classes."""
    from medssl.evaluation.classification_summary import INTERVAL, POLICY

    for name, estimate in evaluation.metrics.items():
        kind, _, class_name = name.partition("_")
        shown = f"{_NAMES[kind]} {class_name}".strip()
        if estimate.value is None:
            typer.echo(f"{shown}: {estimate.reason}")
            continue
        bounds = "no interval" if estimate.low is None else f"[{estimate.low:.3f}, {estimate.high:.3f}]"
        typer.echo(f"{shown}: {estimate.value:.3f} {bounds}")
    typer.echo(
        f"{len(evaluation.scored)} of {len(evaluation.cases)} cases scored ({len(evaluation.failed)} failed), "
        f"{evaluation.patients} patients."
    )
    for name, row in zip(evaluation.classes, evaluation.confusion, strict=True):
        counts = ", ".join(f"{count} as {other}" for other, count in zip(evaluation.classes, row, strict=True))
        typer.echo(f"{name}: {counts}")
    typer.echo(f"Policy: {POLICY}")
    typer.echo(f"Intervals: {INTERVAL}")
