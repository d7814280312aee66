"""Scores of classified images: metrics with intervals, and true against predicted classes."""

from __future__ import annotations

from dataclasses import dataclass

from medssl.reports.sources import Json


@dataclass(frozen=True, kw_only=True)
class ClassScores:
    """The section on one evaluation of classes.

    Attributes:
        source: Where it comes from.
        metrics: Name, value and interval.
        classes: Names.
        confusion: For each true class its name and the number of cases predicted as each class.
        counts: Cases scored and failed, and patients, in words.
        policy: How classes are counted.
    """

    source: str
    metrics: tuple[tuple[str, str, str], ...]
    classes: tuple[str, ...]
    confusion: tuple[tuple[str, tuple[int, ...]], ...]
    counts: str
    policy: str


def is_of_classes(content: Json) -> bool:
    """Tell whether metrics or a run are of classified images."""
    return content.get("task") == "classification"


def summarise_class_scores(content: Json, *, source: str) -> ClassScores:
    """Put the content of metrics.json into words."""
    classes = tuple(content["labels"].values())
    counts = content["counts"]
    metrics = []
    for name, each in content["summary"].items():
        bounds = "" if each["low"] is None else f"[{each['low']:.3f}, {each['high']:.3f}]"
        metrics.append((name.replace("_", " "), _shown(each["value"]), bounds))
    rows = zip(classes, content["confusion"], strict=True)
    return ClassScores(
        source=source,
        metrics=tuple(metrics),
        classes=classes,
        confusion=tuple((name, tuple(int(count) for count in row)) for name, row in rows),
        counts=f"{counts['scored']} of {counts['cases']} cases scored, {counts['groups']} patients.",
        policy=str(content["policy"]),
    )


def _shown(value: float | None) -> str:
    return "not defined" if value is None else f"{value:.3f}"
