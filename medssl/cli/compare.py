"""`medssl compare`: two evaluations of the same cases, paired."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from medssl.core import exit_codes

if TYPE_CHECKING:
    from medssl.evaluation.comparison import Comparison, Difference
    from medssl.evaluation.statistics import Interval

_NAMES = {"dice": "Dice", "hd95_mm": "HD95 mm", "nsd": "NSD", "auc": "AUC", "f1": "F1", "auroc": "AUROC", "ap": "AP"}


def compare(
    a: Annotated[Path, typer.Argument(help="metrics.json of the first, or its folder.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="metrics.json of the second, or its folder.", metavar="B")],
    *,
    out: Annotated[Path | None, typer.Option(help="JSON file for the comparison.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the bootstrap.")] = 0,
) -> int:
    """Compare two evaluations of the same cases: A minus B with a 95% interval over patients, and which is better.

    Both must score the same part of the same manifest. An interval that holds 0 is called undecided.
    """
    from medssl.core.files import keep_source, sha256_file, write_json
    from medssl.core.provenance import provenance
    from medssl.evaluation.comparison import compare_evaluations, read_evaluation

    files = [path / "metrics.json" if path.is_dir() else path for path in (a, b)]
    if out is not None:
        keep_source(out, files)
    found = compare_evaluations(read_evaluation(a), read_evaluation(b), seed=seed)
    _show(found)
    if out is not None:
        block = provenance("compare", a=sha256_file(files[0]), b=sha256_file(files[1]))
        write_json(out, {"medssl": block, "seed": seed, **found.to_json()})
        typer.echo(f"Wrote {out}")
    return exit_codes.SOME_FAILED if found.only_a or found.only_b else exit_codes.OK


def _show(found: Comparison) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=f"A minus B over {len(found.cases)} cases, with 95% intervals over patients")
    for heading in ("class", "metric", "A", "B", "A - B", ""):
        table.add_column(heading)
    for each in found.differences:
        table.add_row(Text(each.name), _NAMES.get(each.metric, each.metric.replace("_", " ")), *_cells(each))
    console = Console(highlight=False)
    console.print(table)
    for name, only in (("A", found.only_a), ("B", found.only_b)):
        if only:
            typer.echo(f"Only {name} scored {len(only)} cases, left out here: {', '.join(only[:5])}")


def _cells(each: Difference) -> tuple[str, str, str, str]:
    if each.difference.mean is None:
        return "undefined", "undefined", "", ""
    verdict = f"undefined in {each.one_sided} cases of one" if each.one_sided else "undecided"
    if each.better is not None:
        verdict = f"{each.better.upper()} better"
    return _number(each.a), _number(each.b), _with_interval(each.difference), verdict


def _number(interval: Interval) -> str:
    return "" if interval.mean is None else f"{interval.mean:.4f}"


def _with_interval(interval: Interval) -> str:
    if interval.low is None:
        return f"{interval.mean:+.4f} (no interval, {interval.groups} patients)"
    return f"{interval.mean:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
