"""The score table: mean and 95% interval of each measure and structure, and how often it was missed or made up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from medssl.reports.figures import CLASS_COLOURS, INK, new_figure, plain_text, quiet_axes, svg_data
from medssl.reports.sources import Json

MOST_CASES = 40
NOT_DEFINED = "–"
_MEASURES = {
    "dice": ("Dice", "{:.3f}"),
    "nsd": ("Surface Dice", "{:.3f}"),
    "hd95_mm": ("HD95 (mm)", "{:.1f}"),
    "volume_error_ml": ("Volume error (ml)", "{:+.2f}"),
    "volume_error_percent": ("Volume error (%)", "{:+.1f}"),
}
_COUNTS = {"both": "Found", "missed": "Missed", "false": "False", "absent": "Absent"}
_MOST_ROWS_DRAWN = 12


@dataclass(frozen=True, kw_only=True)
class ScoreRow:
    """One structure: a text for each measure and each count."""

    name: str
    measures: tuple[tuple[str, str], ...]
    counts: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class CaseRow:
    """One case: its mean Dice and the Dice of each structure, with its state where it is not plainly found."""

    id: str
    mean: str
    classes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ScoreSummary:
    """The section on one evaluation; `source` tells it from others."""

    source: str
    headings: tuple[str, ...]
    count_headings: tuple[str, ...]
    rows: tuple[ScoreRow, ...]
    meaning: str | None
    policy: str | None
    tolerance_mm: float | None
    case_headings: tuple[str, ...]
    cases: tuple[CaseRow, ...]
    number_of_cases: int
    mean_dice: str | None
    mean_interval: str | None
    without_interval: bool
    figure: str | None
    figure_text: str


def summarise_scores(metrics: Json, *, source: str) -> ScoreSummary:
    """Turn metrics.json into tables: structures in its order, cases from the worst mean Dice up.

    Args:
        metrics: Content of metrics.json.
        source: Name that tells these scores from others in the report.
    """
    summary: Json = metrics["summary"]
    structures = [name for name in summary if name != "mean" and isinstance(summary[name], Mapping)]
    measures = [name for name in _MEASURES if any(name in summary[structure] for structure in structures)]
    ranked = ranked_cases(metrics)
    mean = (summary.get("mean") or {}).get("dice") or {}
    intervals = [summary[structure].get(measure) or {} for structure in structures for measure in measures]
    return ScoreSummary(
        source=source,
        headings=tuple(_MEASURES[name][0] for name in measures),
        count_headings=tuple(_COUNTS.values()),
        rows=tuple(_score_row(structure, summary[structure], measures) for structure in structures),
        meaning=metrics.get("meaning"),
        policy=metrics.get("policy"),
        tolerance_mm=metrics.get("tolerance_mm"),
        case_headings=tuple(structures),
        cases=tuple(_case_row(case, structures) for case in ranked[:MOST_CASES]),
        number_of_cases=len(ranked),
        mean_dice=_number(mean.get("mean"), "{:.3f}") if mean else None,
        mean_interval=_interval(mean, "{:.3f}") or None,
        without_interval=any(entry.get("low") is None and entry.get("mean") is not None for entry in intervals),
        figure=_draw(ranked, structures, summary),
        figure_text="Dice of every case (dots), mean and 95% interval (bar), one line for each structure.",
    )


def case_dice(case: Json) -> float | None:
    """Return the mean Dice of a case over its defined structures, or None."""
    defined = [entry["dice"] for entry in (case.get("classes") or {}).values() if entry.get("dice") is not None]
    return float(np.mean(defined)) if defined else None


def ranked_cases(metrics: Json) -> list[Json]:
    """Return the cases from the worst mean Dice to the best; those without any Dice come last."""

    def key(case: Json) -> tuple[float, str]:
        dice = case_dice(case)
        return (2.0 if dice is None else dice, str(case.get("id")))

    return sorted(metrics["cases"], key=key)


def _score_row(structure: str, entry: Json, measures: list[str]) -> ScoreRow:
    texts = []
    for measure in measures:
        value, form = entry.get(measure) or {}, _MEASURES[measure][1]
        texts.append((_number(value.get("mean"), form), _interval(value, form)))
    counts = entry.get("counts") or {}
    return ScoreRow(
        name=structure, measures=tuple(texts), counts=tuple(str(counts.get(key, NOT_DEFINED)) for key in _COUNTS)
    )


def _case_row(case: Json, structures: list[str]) -> CaseRow:
    texts = []
    for structure in structures:
        entry = (case.get("classes") or {}).get(structure) or {}
        text = _number(entry.get("dice"), "{:.3f}")
        state = entry.get("state", "both")
        texts.append(text if state == "both" else f"{text} ({state})")
    return CaseRow(id=str(case.get("id")), mean=_number(case_dice(case), "{:.3f}"), classes=tuple(texts))


def _number(value: Any, form: str) -> str:
    return NOT_DEFINED if value is None else form.format(value).replace("-", "\N{MINUS SIGN}")


def _interval(entry: Json, form: str) -> str:
    if entry.get("low") is None or entry.get("high") is None:
        return ""
    return f"{_number(entry['low'], form)} to {_number(entry['high'], form)}"


def _draw(cases: list[Json], structures: list[str], summary: Json) -> str | None:
    drawn = structures[:_MOST_ROWS_DRAWN]
    if not drawn or not cases:
        return None
    figure = new_figure(8.6, 0.7 + 0.55 * len(drawn))
    axes = figure.add_subplot()
    quiet_axes(axes, x_label="Dice")
    axes.grid(visible=False, axis="y")
    for row, structure in enumerate(drawn):
        entries = [(case.get("classes") or {}).get(structure) or {} for case in cases]
        values = [entry["dice"] for entry in entries if entry.get("dice") is not None]
        # A fixed, even spread above the bar keeps equal values apart without a random jitter
        spread = np.linspace(-0.3, -0.06, len(values)) if len(values) > 1 else np.full(len(values), -0.18)
        axes.plot(values, row + spread, "o", color=CLASS_COLOURS[0], alpha=0.45, markersize=4.5, markeredgewidth=0)
        entry = summary[structure].get("dice") or {}
        if entry.get("low") is not None and entry.get("high") is not None:
            axes.plot(
                [entry["low"], entry["high"]], [row + 0.14, row + 0.14], color=INK, linewidth=2.2, solid_capstyle="butt"
            )
        if entry.get("mean") is not None:
            axes.plot([entry["mean"]], [row + 0.14], "D", color=INK, markersize=5)
    axes.set_yticks(range(len(drawn)), [plain_text(name) for name in drawn], color=INK)
    axes.set_ylim(len(drawn) - 0.5, -0.5)
    axes.set_xlim(right=1.0)
    return svg_data(figure)
