"""A study as one HTML page that opens offline: the label-efficiency curve, the table and what they mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medssl.core.provenance import provenance
from medssl.reports.figures import svg_data
from medssl.reports.pages import render


@dataclass(frozen=True, kw_only=True)
class StudyPage:
    """What the page shows, in its order.

    Attributes:
        title: Name of the study.
        about: What it asks.
        figure: The curve as a matplotlib figure.
        headings: Headings of the table.
        lines: Its lines, one cell for each heading.
        notes: Paragraphs below the table.
        command: What made it.
    """

    title: str
    about: str
    figure: Any
    headings: Sequence[str]
    lines: Sequence[Sequence[str]]
    notes: Sequence[str]
    command: str

    def html(self) -> str:
        """Return the page.

        Raises:
            DependencyError: If jinja2 is not installed.
        """
        content = {**vars(self), "image": svg_data(self.figure), "own": provenance("study")}
        return render("study.html", content)
