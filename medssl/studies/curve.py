"""The label-efficiency curve of a study as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medssl.core.files import atomic_path
from medssl.core.optional import require
from medssl.studies.summary import Row

_WIDTH, _HEIGHT, _DPI = 7.0, 4.5, 120
_MARKERS = "osD^vP*X"


def curve_figure(rows: Sequence[Row], *, title: str) -> Any:
    """Return a matplotlib figure: mean Dice of each arm against the number of labelled cases, intervals as bars.

    Args:
        rows: From `summary.summarise`.
        title: Title of the picture.

    Raises:
        DependencyError: If matplotlib is not installed.
    """
    require("matplotlib", feature="The curve of a study", extra="report")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, _HEIGHT), dpi=_DPI, layout="constrained")
    axes = figure.add_subplot()
    counts = sorted({row.labelled for row in rows})
    arms = list(dict.fromkeys(row.arm for row in rows))
    for number, arm in enumerate(arms):
        own = [row for row in rows if row.arm == arm]
        # side by side, so that intervals of several arms can be told apart
        shift = 1 + 0.03 * (number - (len(arms) - 1) / 2)
        axes.errorbar(
            [row.labelled * shift for row in own],
            [row.dice.mean for row in own],
            yerr=_bars(own),
            label=arm.replace("_", " "),
            marker=_MARKERS[number % len(_MARKERS)],
            linestyle="-" if len(counts) > 1 else "none",
            capsize=3,
        )
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_xlabel("labelled cases")
    axes.set_ylabel("mean Dice")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


def write_curve(path: Path, figure: Any) -> None:
    """Write a figure as PNG, whole or not at all."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png")


def _bars(rows: Sequence[Row]) -> list[list[float]]:
    low = [0.0 if row.dice.low is None else row.dice.mean - row.dice.low for row in rows]
    high = [0.0 if row.dice.high is None else row.dice.high - row.dice.mean for row in rows]
    return [low, high]
