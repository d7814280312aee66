"""How commands show findings: a table on a terminal, one line each elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from medssl.core.findings import Finding


def show_findings(findings: Sequence[Finding]) -> None:
    """Print findings as a table, or as one line each where there is no terminal."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if not console.is_terminal:
        for finding in findings:
            typer.echo(
                f"{finding.severity} {finding.code} [{finding.case or 'all cases'}] {finding.text} {finding.fix}"
            )
        return
    if findings:
        table = Table("case", "severity", "code", "found", "remedy")
        for finding in findings:
            row = (finding.case or "all cases", finding.severity, finding.code, finding.text, finding.fix)
            table.add_row(*(_plain(cell) for cell in row))
        console.print(table)


def _plain(cell: str) -> str:
    from rich.markup import escape

    return escape(cell)  # a file name may hold brackets, which are markup to rich
