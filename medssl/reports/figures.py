"""Drawing for the report: colours that colour-blind readers tell apart, axes that stay quiet, images as data."""

from __future__ import annotations

import base64
import io
from typing import Any

from medssl.core.optional import require

REFERENCE = "#56B4E9"
PREDICTION = "#E69F00"
CLASS_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
"""The palette of Okabe and Ito, made for colour-blind readers; more classes than colours repeat it."""
INK = "#1c2530"
MUTED = "#5b6672"
_RULE = "#d5dbe1"


def new_figure(width_inch: float, height_inch: float, *, face: str = "white") -> Any:
    """Return an empty matplotlib figure that belongs to no global state.

    Raises:
        DependencyError: If matplotlib is not installed.
    """
    figure = require("matplotlib.figure", feature="medssl report", extra="report")
    return figure.Figure(figsize=(width_inch, height_inch), facecolor=face, layout="constrained")


def quiet_axes(axes: Any, *, x_label: str = "", y_label: str = "") -> None:
    """Leave two thin axis lines, light grid lines and readable labels."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_RULE)
    axes.tick_params(colors=MUTED, labelsize=9, length=3, color=_RULE)
    axes.grid(visible=True, color=_RULE, linewidth=0.5, alpha=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel(x_label, color=MUTED, fontsize=9)
    axes.set_ylabel(y_label, color=MUTED, fontsize=9)


def plain_text(text: str) -> str:
    """Keep matplotlib from reading a dollar sign in a name as the start of a formula."""
    return text.replace("$", r"\$")


def svg_data(figure: Any) -> str:
    """Return a figure as an SVG data address; letters are drawn as paths, so no font is needed."""
    return _data(figure, "svg", "image/svg+xml", metadata={"Date": None, "Creator": None})


def png_data(figure: Any, *, dpi: int = 160) -> str:
    """Return a figure as a PNG data address."""
    return _data(figure, "png", "image/png", dpi=dpi, metadata={"Software": None})


def _data(figure: Any, kind: str, mime: str, **options: Any) -> str:
    stream = io.BytesIO()
    figure.savefig(stream, format=kind, facecolor=figure.get_facecolor(), **options)
    return f"data:{mime};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
