"""The section on lesion detection: numbers with intervals, three curves with bands, and cases by what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from medssl.evaluation.detection_curves import CURVE_DRAWS, Band, froc_band, precision_recall_band, roc_band
from medssl.metrics.detection_table import DetectionTable, detection_table
from medssl.metrics.lesion_matching import Candidate, LesionMatch
from medssl.reports.figures import CLASS_COLOURS, INK, MUTED, new_figure, quiet_axes, svg_data
from medssl.reports.scores import MOST_CASES, NOT_DEFINED
from medssl.reports.sources import Json

_NAMES = {"auroc": "AUROC of cases", "ap": "Average precision of lesions", "score": "Score (mean of both)"}
_AT = "sensitivity_at_"
_COUNTS = {
    "positive": "Positive cases",
    "negative": "Negative cases",
    "lesions": "Lesions",
    "found": "Lesions found",
    "missed": "Lesions missed",
    "false_candidates": "False candidates",
    "cases_without_candidate": "Cases without any candidate",
}
_SIZE_INCH = (4.1, 3.6)


@dataclass(frozen=True, kw_only=True)
class DetectionRow:
    """One metric: its value and interval, or why it has none."""

    name: str
    value: str
    interval: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class DetectionCurve:
    """One figure; `description` says in words what it shows."""

    title: str
    image: str
    description: str


@dataclass(frozen=True, kw_only=True)
class DetectionCaseRow:
    """One case of the table."""

    id: str
    truth: str
    confidence: str
    found: str
    false: str


@dataclass(frozen=True, kw_only=True)
class DetectionSummary:
    """The section on one detection evaluation; `source` tells it from others."""

    source: str
    lesion: str
    rows: tuple[DetectionRow, ...]
    counts: tuple[tuple[str, str], ...]
    statements: tuple[str, ...]
    folds: tuple[tuple[str, ...], ...]
    curves: tuple[DetectionCurve, ...]
    missing_curves: tuple[str, ...]
    cases: tuple[DetectionCaseRow, ...]
    number_of_cases: int
    policy: str
    interval: str
    headline: tuple[str, str]


def is_detection(metrics: Json) -> bool:
    """Tell whether metrics.json is that of a detection."""
    return metrics.get("task") == "detection"


def summarise_detection(metrics: Json, *, source: str) -> DetectionSummary:
    """Turn metrics.json of a detection into tables and curves.

    Args:
        metrics: Content of metrics.json.
        source: Name that tells these scores from others in the report.
    """
    curves, missing = _curves(metrics)
    ranked = ranked_detections(metrics)
    rows = tuple(_row(name, entry) for name, entry in metrics["summary"].items())
    score = next(row for row in rows if row.name == _NAMES["score"])
    return DetectionSummary(
        source=source,
        lesion=next(iter(metrics["labels"].values())),
        rows=rows,
        counts=tuple((text, str(metrics["counts"][key])) for key, text in _COUNTS.items()),
        statements=tuple(metrics.get("statements") or ()),
        folds=tuple(_fold(fold) for fold in metrics.get("folds") or ()),
        curves=curves,
        missing_curves=missing,
        cases=tuple(_case(case) for case in ranked[:MOST_CASES]),
        number_of_cases=len(ranked),
        policy=str(metrics["policy"]),
        interval=str(metrics["interval"]),
        headline=(score.value, score.interval),
    )


def ranked_detections(metrics: Json) -> list[Json]:
    """Return the cases with missed lesions first, then by their most confident false candidate, then the others."""

    def key(case: Json) -> tuple[float, float, str]:
        return -int(case["missed"]), -highest_false(case), str(case["id"])

    return sorted(metrics["cases"], key=key)


def highest_false(case: Json) -> float:
    """Return the confidence of a case's most confident false candidate, 0 without one."""
    return max((each["confidence"] for each in case["candidates"] if each["outcome"] == "false"), default=0.0)


def table_of(metrics: Json) -> tuple[DetectionTable, list[str]]:
    """Return the results of the cases as arrays, and the group of each case."""
    return detection_table([_match(case) for case in metrics["cases"]]), [case["group"] for case in metrics["cases"]]


def _match(case: Json) -> LesionMatch:
    candidates = [Candidate(**{**each, "centre": tuple(each["centre"])}) for each in case["candidates"]]
    return LesionMatch(candidates=tuple(candidates), lesions=case["lesions"], confidence=case["confidence"])


def _row(name: str, entry: Json) -> DetectionRow:
    text = _NAMES.get(name) or f"Sensitivity at {name.removeprefix(_AT)} false candidates a case"
    interval = "" if entry.get("low") is None else f"{entry['low']:.3f} to {entry['high']:.3f}"
    value = NOT_DEFINED if entry["value"] is None else f"{entry['value']:.3f}"
    return DetectionRow(name=text, value=value, interval=interval, reason=str(entry.get("reason") or ""))


def _fold(fold: Json) -> tuple[str, ...]:
    values = [fold["metrics"].get(name) for name in _NAMES]
    shown = [NOT_DEFINED if value is None else f"{value:.3f}" for value in values]
    return str(fold["fold"]), str(fold["cases"]), str(fold["positive"]), *shown


def _case(case: Json) -> DetectionCaseRow:
    false = sum(each["outcome"] == "false" for each in case["candidates"])
    return DetectionCaseRow(
        id=str(case["id"]),
        truth="positive" if case["positive"] else "negative",
        confidence=f"{case['confidence']:.3f}",
        found=f"{case['found']} of {case['lesions']}" if case["lesions"] else NOT_DEFINED,
        false=str(false),
    )


def _curves(metrics: Json) -> tuple[tuple[DetectionCurve, ...], tuple[str, ...]]:
    table, groups = table_of(metrics)
    seed = int(metrics.get("seed") or 0)
    found = "share of lesions found"
    drawn: list[DetectionCurve] = []
    missing: list[str] = []
    for title, band_of, across, up in (
        ("ROC", roc_band, "share of negative cases called positive", "share of positive cases called positive"),
        ("FROC", froc_band, "false candidates a case", found),
        ("Precision and recall", precision_recall_band, found, "precision"),
    ):
        band = band_of(table, groups, seed=seed)
        if band is None:
            missing.append(title)
        else:
            drawn.append(_draw(title, band, across, up, diagonal=title == "ROC"))
    return tuple(drawn), tuple(missing)


def _draw(title: str, band: Band, across: str, up: str, *, diagonal: bool) -> DetectionCurve:
    figure = new_figure(*_SIZE_INCH)
    axes = figure.add_subplot()
    quiet_axes(axes, x_label=across, y_label=up)
    if diagonal:
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.8, linestyle=":")
    if band.low is not None and band.high is not None:
        axes.fill_between(band.x, band.low, band.high, color=CLASS_COLOURS[0], alpha=0.2, linewidth=0)
    axes.plot(band.x, band.y, color=INK, linewidth=1.8)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlim(left=0, right=float(band.x[-1]))
    return DetectionCurve(title=title, image=svg_data(figure), description=_description(title, band, across, up))


def _description(title: str, band: Band, across: str, up: str) -> str:
    at: Sequence[float] = (0.1, 0.5) if band.x[-1] <= 1 else (0.5, 1.0, 2.0)
    points = ", ".join(f"{_read(band, x):.2f} at {x:g}" for x in at)
    shade = f"band: 95% interval over {CURVE_DRAWS} draws of patients" if band.low is not None else "too few for a band"
    return f"{title}: {up} over {across}: {points}; {shade}."


def _read(band: Band, x: float) -> Any:
    return band.y[int(abs(band.x - x).argmin())]
