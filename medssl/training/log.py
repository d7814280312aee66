"""The training log: one JSON line for each event, plain progress lines, and TensorBoard where it is installed."""

from __future__ import annotations

import json
import logging
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ignite.engine import Engine, Events

from medssl.core.provenance import utc_now
from medssl.training.distributed import process_count
from medssl.training.machine import device_name
from medssl.training.optimization import Optimization

_logger = logging.getLogger("medssl.progress")


class TrainingLog:
    """Write what happens in a run to a JSON-lines file, the progress logger and TensorBoard.

    Sits in `train#handlers` behind the validation handler. A line of training holds the mean loss since the last
    line, likewise the scalars that a step returns under "log", the learning rate, seconds for each step, the share of
    time spent waiting for data, and the seconds since the last start. The last line holds the patches passed forward
    and back by all processes, where they are counted (`PatchCount`).

    Args:
        path: JSON-lines file; appended to, so a resumed run continues it.
        optimization: Tells the learning rate and the number of skipped steps.
        evaluator: The validator whose metrics are logged after each validation, or None.
        class_names: Names of the foreground classes, for the Dice of each.
        every_seconds: Shortest time between two lines within an epoch.
        tensorboard: Also write TensorBoard events beside the log; ignored where the package is missing.
        shown: Scalars of the step that the progress line shows too, such as those of `PretrainingHealth`.
    """

    def __init__(
        self,
        *,
        path: str,
        optimization: Optimization,
        evaluator: Engine | None = None,
        class_names: list[str] | None = None,
        every_seconds: float = 20.0,
        tensorboard: bool = False,
        shown: Sequence[str] = (),
    ) -> None:
        self.path = Path(path)
        self.optimization = optimization
        self.evaluator = evaluator
        self.class_names = class_names or []
        self.every_seconds = every_seconds
        self.tensorboard = tensorboard
        self.shown = tuple(shown)
        self._writer: Any = None
        self._validated_epoch = 0
        self._losses: list[float] = []
        self._scalars_of_steps: dict[str, list[Any]] = {}
        self._waited = 0.0
        self._line_at = self._asked_at = self._started_at = time.monotonic()
        self._first_iteration: int | None = None

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        # Only here every handler has started, among them the one that puts a resumed run where it was stopped
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.GET_BATCH_STARTED, self._ask)
        engine.add_event_handler(Events.GET_BATCH_COMPLETED, self._receive)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _start(self, engine: Engine) -> None:
        if self.tensorboard:
            self._writer = _open_tensorboard(self.path.parent / "tensorboard")
        self._started_at = self._line_at = time.monotonic()
        self._first_iteration = None

    def _begin(self, engine: Engine) -> None:
        if self._first_iteration is not None:
            return
        self._first_iteration = engine.state.iteration
        self._write(
            kind="start",
            time=utc_now(),
            max_epochs=engine.state.max_epochs,
            epoch_length=engine.state.epoch_length,
            iteration=engine.state.iteration,
            precision=str(self.optimization.dtype or "float32").removeprefix("torch."),
            device=device_name(self.optimization.device),
        )

    def _ask(self, engine: Engine) -> None:
        self._asked_at = time.monotonic()

    def _receive(self, engine: Engine) -> None:
        self._waited += time.monotonic() - self._asked_at

    def _after_iteration(self, engine: Engine) -> None:
        # The tensor is kept and read once for each line: reading it every step would make a GPU wait
        self._losses.append(engine.state.output["loss"])
        for name, value in engine.state.output.get("log", {}).items():
            self._scalars_of_steps.setdefault(name, []).append(value)
        epoch_ends = engine.state.iteration % engine.state.epoch_length == 0
        if epoch_ends or time.monotonic() - self._line_at >= self.every_seconds:
            self._line(engine)

    def _after_epoch(self, engine: Engine) -> None:
        if self.evaluator is not None and self.evaluator.state.epoch > self._validated_epoch:
            self._validated_epoch = self.evaluator.state.epoch
            self._validation(engine)
        # The time of a validation belongs to no training step
        self._line_at = time.monotonic()

    def _line(self, engine: Engine) -> None:
        now = time.monotonic()
        seconds = now - self._line_at
        line = {
            "epoch": engine.state.epoch,
            "iteration": engine.state.iteration,
            "loss": round(_mean(self._losses), 6),
            "lr": float(self.optimization.optimizer.param_groups[0]["lr"]),
            "step_seconds": round(seconds / len(self._losses), 4),
            "wait_share": round(min(1.0, self._waited / max(seconds, 1e-9)), 4),
            "skipped": self.optimization.skipped,
            "seconds": round(now - self._started_at, 1),
        }
        extra = {name: round(_mean(values), 6) for name, values in self._scalars_of_steps.items()}
        self._write(kind="train", **line, **extra)
        self._scalars(engine.state.iteration, loss=line["loss"], lr=line["lr"], **extra)
        _logger.info(
            "epoch %d/%d  iteration %d  loss %.4f%s  %.3f s/step  waiting %.0f%%  left %s",
            line["epoch"],
            engine.state.max_epochs,
            line["iteration"],
            line["loss"],
            "".join(f"  {name} {extra[name]:.3f}" for name in self.shown if name in extra),
            line["step_seconds"],
            100 * line["wait_share"],
            self._time_left(engine, now),
        )
        self._losses, self._scalars_of_steps, self._waited = [], {}, 0.0
        self._line_at = time.monotonic()

    def _time_left(self, engine: Engine, now: float) -> str:
        done = engine.state.iteration - (self._first_iteration or 0)
        left = engine.state.max_epochs * engine.state.epoch_length - engine.state.iteration
        seconds = int((now - self._started_at) / max(1, done) * left)
        return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"

    def _validation(self, engine: Engine) -> None:
        state = self.evaluator.state  # type: ignore[union-attr]  # the caller checked
        name = state.key_metric_name
        if name not in state.metrics:
            return  # there was no case to validate, as in the network that is trained on all of them
        mean = float(state.metrics[name])
        if "dice" not in name:
            self._score(engine, name.removeprefix("val_").replace("_", " "), mean)
            return
        per_class = _class_means(state.metric_details.get(name))
        dice = dict(zip(self.class_names, per_class, strict=False))
        self._write(kind="validation", epoch=engine.state.epoch, mean_dice=round(mean, 6), dice=dice)
        self._scalars(engine.state.iteration, validation_dice=mean)
        _logger.info("epoch %d  validation Dice %.4f  %s", engine.state.epoch, mean, dice)

    def _score(self, engine: Engine, name: str, value: float) -> None:
        """Write a validation by another score than Dice; null where it is not defined."""
        defined = round(value, 6) if math.isfinite(value) else None
        self._write(kind="validation", epoch=engine.state.epoch, metric=name, value=defined)
        if defined is not None:
            self._scalars(engine.state.iteration, **{f"validation {name}": value})
        _logger.info(
            "epoch %d  validation %s %s", engine.state.epoch, name, "not defined" if defined is None else value
        )

    def _finish(self, engine: Engine) -> None:
        self._begin(engine)  # for a run that was complete already
        state = {"iteration": engine.state.iteration, "skipped": self.optimization.skipped}
        patches = self.optimization.patches.total
        counted = {"patches": patches * process_count()} if patches else {}
        seconds = round(time.monotonic() - self._started_at, 1)
        self._write(kind="end", time=utc_now(), **state, seconds=seconds, **counted)
        if self._writer is not None:
            self._writer.close()

    def _scalars(self, iteration: int, **values: float) -> None:
        if self._writer is not None:
            for name, value in values.items():
                self._writer.add_scalar(name, value, iteration)

    def _write(self, **line: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+b") as stream:
            # A killed run may have left half a line; it stays alone, so that readers can skip it
            torn = stream.tell() > 0 and _last_byte(stream) != b"\n"
            stream.write((b"\n" if torn else b"") + json.dumps(line).encode() + b"\n")


def _last_byte(stream: BinaryIO) -> bytes:
    stream.seek(-1, os.SEEK_END)
    return stream.read(1)


def _mean(values: list[Any]) -> float:
    return sum(float(value) for value in values) / len(values)


def _class_means(details: Any) -> list[float]:
    """Average (cases, classes) over the cases, leaving out undefined values; returns one number a class."""
    if details is None or details.ndim != 2:
        return []
    return [round(float(column[~column.isnan()].mean()), 6) for column in details.T]


def _open_tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        _logger.warning('TensorBoard is not installed; to have it, run: pip install "medssl[track]"')
        return None
    return SummaryWriter(str(folder))
