"""medssl report: one HTML file from runs, predictions, metrics, checks and manifests."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def report(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Run or bundle folders, outputs of infer and evaluate, the JSON of check, manifests; in any order.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[Path, typer.Option(help="HTML file to write.")] = Path("report.html"),
    data_root: Annotated[
        Path | None, typer.Option(help="Folder that the manifests' paths start from; by default each manifest's own.")
    ] = None,
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "medssl report",
    worst: Annotated[int, typer.Option(min=0, help="Cases with the lowest Dice to show; the median is added.")] = 2,
    viewers: Annotated[
        bool, typer.Option("--viewers", help="Write a page to scroll through for every case that is shown.")
    ] = False,
    viewer: Annotated[
        list[str] | None,
        typer.Option(metavar="CASE", help="Show this case too, with such a page. Repeat for more.", show_default=False),
    ] = None,
) -> None:
    """Write one HTML file that opens offline: dataset, training, scores, cases, findings, times and versions.

    Viewer pages hold the whole image and its label maps; they lie in a folder beside the report and open offline too.
    """
    from medssl.reports.build import write_report

    findings = write_report(
        sources, out, data_root=data_root, title=title, worst=worst, viewers=viewers, viewer_cases=viewer or ()
    )
    for finding in findings:
        typer.echo(f"not shown: case {finding.case}: {finding.text}", err=True)
    typer.echo(f"report: {out}")
