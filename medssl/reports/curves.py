"""Training curves from the log: loss, validation Dice of each class, step time and share of waiting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medssl.reports.figures import CLASS_COLOURS, INK, new_figure, plain_text, quiet_axes, svg_data
from medssl.reports.sources import Json, Run

_SIZE_INCH = (5.2, 2.9)
_MOST_LINES = 8
_MARKERS = "osD^vPX*"
_MOST_MARKERS = 12


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One drawn curve with what it shows in words."""

    title: str
    image: str
    description: str


@dataclass(frozen=True, kw_only=True)
class TrainingSummary:
    """The section on one run."""

    name: str
    facts: tuple[tuple[str, str], ...]
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]
    weights: tuple[tuple[str, str], ...]


def summarise_training(run: Run) -> TrainingSummary:
    """Draw the curves of one run; what the log lacks is said in `notes`."""
    train = _latest(run.log, "train", "iteration")
    validation = _latest(run.log, "validation", "epoch")
    notes = []
    if not run.log:
        notes.append("This folder has no training log (results/train_log.jsonl).")
    if run.torn_lines:
        notes.append("A line of the log is torn: the run was stopped while writing it. The line is left out.")
    pretrains = any("spread" in event or "collapse_value" in event for event in train)
    if run.log and not validation and not pretrains:
        notes.append("The log holds no validation.")
    if run.log and not any(event.get("kind") == "end" for event in run.log):
        notes.append("The log has no end: the run still goes on, or was stopped.")
    drawn = (
        _loss(train),
        _health(train),
        _uniformity(train),
        _rank(train),
        _dice(validation),
        _score(validation),
        _speed(train),
    )
    curves = [curve for curve in (*drawn, _waiting(train)) if curve is not None]
    return TrainingSummary(
        name=run.name,
        facts=_facts(run.log, train, validation),
        curves=tuple(curves),
        notes=tuple(notes),
        weights=_weights(run.weights),
    )


def _latest(log: Sequence[Json], kind: str, key: str) -> list[Json]:
    """Keep the last event of each iteration or epoch: a resumed run repeats some of them."""
    events = {event[key]: event for event in log if event.get("kind") == kind and isinstance(event.get(key), int)}
    return [events[position] for position in sorted(events)]


def _series(events: Sequence[Json], x: str, y: str) -> tuple[list[float], list[float]]:
    points = [(event[x], event[y]) for event in events if _is_number(event.get(x)) and _is_number(event.get(y))]
    return [float(point[0]) for point in points], [float(point[1]) for point in points]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _loss(train: Sequence[Json]) -> Curve | None:
    steps, losses = _series(train, "iteration", "loss")
    if not steps:
        return None
    figure = new_figure(*_SIZE_INCH)
    axes = figure.add_subplot()
    quiet_axes(axes, x_label="step", y_label="training loss")
    axes.plot(steps, losses, color=CLASS_COLOURS[0], linewidth=1.4, marker="." if len(steps) < 3 else None)
    text = f"Training loss from {losses[0]:.3f} to {losses[-1]:.3f} over {steps[-1]:.0f} steps."
    at, collapse = _series(train, "iteration", "collapse_value")
    if at:
        axes.plot(at, collapse, color=INK, linewidth=1.2, linestyle="--", label="all embeddings equal")
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)
        text += f" A network that maps all images to one point has {collapse[-1]:.3f}."
    return Curve(title="Loss", image=svg_data(figure), description=text)


def _health(train: Sequence[Json]) -> Curve | None:
    """Draw how evenly embeddings are spread, how near views of one thing lie, and what a probe of labels finds."""
    names = {"spread": "spread (1 is even)", "alignment": "distance of views", "probe": "probe (0.5 is chance)"}
    found = {text: _series(train, "iteration", name) for name, text in names.items()}
    if not any(steps for steps, _ in found.values()):
        return None
    figure = new_figure(*_SIZE_INCH)
    axes = figure.add_subplot()
    quiet_axes(axes, x_label="step", y_label="embeddings")
    for index, (text, (steps, values)) in enumerate(found.items()):
        if steps:
            every = max(1, len(steps) // _MOST_MARKERS)
            style = {"color": CLASS_COLOURS[index], "marker": _MARKERS[index], "markevery": every}
            axes.plot(steps, values, linewidth=1.2, markersize=4, label=text, **style)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, frameon=False, labelcolor=INK)
    last = ", ".join(f"{text} {values[-1]:.3f}" for text, (_, values) in found.items() if values)
    return Curve(title="Embeddings", image=svg_data(figure), description=f"At the end: {last}.")


def _uniformity(train: Sequence[Json]) -> Curve | None:
    text = "How evenly embeddings cover the sphere, {last:.2f} at the end; 0 is one point, and lower is more even."
    return _line(train, "uniformity", title="Uniformity", y_label="uniformity", text=text, top=0.0)


def _rank(train: Sequence[Json]) -> Curve | None:
    text = "Dimensions that the embeddings fill, {last:.1f} at the end; to be compared within one method only."
    return _line(train, "rankme", title="Effective rank", y_label="effective rank (RankMe)", text=text, bottom=0.0)


def _line(
    train: Sequence[Json],
    name: str,
    *,
    title: str,
    y_label: str,
    text: str,
    bottom: float | None = None,
    top: float | None = None,
) -> Curve | None:
    """Draw one value of the training log; `text` may name its last value."""
    steps, values = _series(train, "iteration", name)
    if not steps:
        return None
    figure = new_figure(*_SIZE_INCH)
    axes = figure.add_subplot()
    quiet_axes(axes, x_label="step", y_label=y_label)
    axes.plot(steps, values, color=CLASS_COLOURS[0], linewidth=1.4, marker="." if len(steps) < 3 else None)
    axes.set_ylim(bottom=bottom, top=top)
    return Curve(title=title, image=svg_data(figure), description=text.format(last=values[-1]))


def _dice(validation: Sequence[Json]) -> Curve | None:
    epochs, means = _series(validation, "epoch", "mean_dice")
    if not epochs:
        return None
    figure = new_figure(*_SIZE_INCH)
    axes = figure.add_subplot()
    quiet_axes(axes, x_label="epoch", y_label="validation Dice")
    every = max(1, len(epochs) // _MOST_MARKERS)
    names = sorted({name for event in validation for name in event.get("dice") or {}})
    for index, name in enumerate(names[:_MOST_LINES]):
        flat = [{"epoch": event.get("epoch"), "dice": (event.get("dice") or {}).get(name)} for event in validation]
        xs, ys = _series(flat, "epoch", "dice")
        if xs:
            # A marker of its own names a line to those who do not see its colour
            style = {"color": CLASS_COLOURS[index % len(CLASS_COLOURS)], "marker": _MARKERS[index], "markevery": every}
            axes.plot(xs, ys, linewidth=1.2, markersize=4, label=plain_text(name), **style)
    axes.plot(
        epochs, means, color=INK, linewidth=1.8, linestyle="--", marker="." if len(epochs) < 3 else None, label="mean"
    )
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8, frameon=False, labelcolor=INK, loc="lower right")
    best = int(np.argmax(means))
    text = f"Validation Dice; best mean {means[best]:.3f} at epoch {epochs[best]:.0f}."
    if len(names) > _MOST_LINES:
        text += f" The first {_MOST_LINES} of {len(names)} classes are drawn."
    return Curve(title="Validation Dice", image=svg_data(figure), description=text)


def _score(validation: Sequence[Json]) -> Curve | None:
    """Draw a validation by another score than Dice."""
    epochs, values = _series(validation, "epoch", "value")
    if not epochs:
        return None
    name = str(validation[-1].get("metric") or "score")
    figure = new_figure(*_SIZE_INCH)
    axes = figure.add_subplot()
    quiet_axes(axes, x_label="epoch", y_label=f"validation {plain_text(name)}")
    axes.plot(epochs, values, color=INK, linewidth=1.8, marker="." if len(epochs) < 3 else None)
    axes.xaxis.get_major_locator().set_params(integer=True)
    best = int(np.argmax(values))
    text = f"Validation {name}; best {values[best]:.3f} at epoch {epochs[best]:.0f}."
    return Curve(title=f"Validation {name}", image=svg_data(figure), description=text)


def _speed(train: Sequence[Json]) -> Curve | None:
    _, seconds = _series(train, "iteration", "step_seconds")
    text = f"Step time; median {np.median(seconds):.3f} s." if seconds else ""
    return _line(train, "step_seconds", title="Step time", y_label="seconds for each step", text=text, bottom=0.0)


def _waiting(train: Sequence[Json]) -> Curve | None:
    steps, shares = _series(train, "iteration", "wait_share")
    if not steps:
        return None
    figure = new_figure(*_SIZE_INCH)
    axes = figure.add_subplot()
    quiet_axes(axes, x_label="step", y_label="share of waiting for data")
    axes.fill_between(steps, shares, color=CLASS_COLOURS[1], alpha=0.2, linewidth=0)
    axes.plot(steps, shares, color=CLASS_COLOURS[1], linewidth=1.4)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
    text = f"Share of the step time spent waiting for data; median {np.median(shares):.0%}."
    return Curve(title="Waiting for data", image=svg_data(figure), description=text)


def _facts(log: Sequence[Json], train: Sequence[Json], validation: Sequence[Json]) -> tuple[tuple[str, str], ...]:
    start = next((event for event in reversed(log) if event.get("kind") == "start"), {})
    facts = []
    if train:
        facts.append(("Steps done", str(train[-1]["iteration"])))
    if "max_epochs" in start:
        facts.append(("Epochs asked", str(start["max_epochs"])))
    if "precision" in start:
        facts.append(("Precision", str(start["precision"])))
    starts = sum(event.get("kind") == "start" for event in log)
    if starts > 1:
        facts.append(("Times resumed", str(starts - 1)))
    epochs, means = _series(validation, "epoch", "mean_dice")
    if means:
        best = int(np.argmax(means))
        facts.append(("Best mean validation Dice", f"{means[best]:.3f} (epoch {epochs[best]:.0f})"))
    skipped = [event["skipped"] for event in train if _is_number(event.get("skipped"))]
    if skipped:
        facts.append(("Steps skipped for a non-finite loss", str(max(skipped))))
    return tuple(facts)


def _weights(report: Json | None) -> tuple[tuple[str, str], ...]:
    if report is None:
        return ()
    kinds = {"loaded": "Loaded", "reshaped": "Reshaped", "skipped": "Skipped", "missing": "Missing (start random)"}
    return tuple((text, str(len(report[kind]))) for kind, text in kinds.items() if isinstance(report.get(kind), list))
