"""last.pt: everything needed to continue a run exactly, written whole, at intervals and at SIGTERM."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from ignite.engine import Engine, Events

from medssl.core import exit_codes
from medssl.core.errors import CheckpointError
from medssl.core.files import atomic_path
from medssl.core.seeding import capture_random_state, restore_random_state
from medssl.training.distributed import (
    Agreement,
    is_main_process,
    process_count,
    process_rank,
    undistributed,
    wait_for_all,
)
from medssl.training.loaders import TwoStreamLoader
from medssl.training.optimization import Optimization

_logger = logging.getLogger("medssl.training")
_FORMAT = 2
_KEYS = frozenset({"iteration", "epoch_length", "settings", "processes", "random", "parts"})


class ResumeHandler:
    """Save the whole state of a run and continue from it.

    Sits in `train#handlers` behind the validation handler, so that stock runs of the bundle resume too. A state is
    saved between optimiser steps: every `interval_minutes`, at the end, and when SIGTERM asks to stop, after which
    the process exits with code 143. On a CPU with one thread, interrupted and resumed equals uninterrupted.

    With several processes all stop behind the same iteration, whichever of them got the signal, and the main one writes
    the file; every process reads it, so they need one folder. A run is resumed with as many processes as it had:
    others would make batches of another size.

    Args:
        path: The resume file, usually checkpoints/last.pt.
        parts: Objects with `state_dict` and `load_state_dict` (network, optimizer, schedule, best, ...).
        optimization: The run's `Optimization`; its state is saved, and it says when no gradient is waiting.
        loader: The trainer's loader; told where to continue.
        settings: Plain values that a resumed run must share with the saved one.
        interval_minutes: Time between saves; 0 saves after every iteration.
        resume: Whether to continue from `path` if it exists.
    """

    def __init__(
        self,
        *,
        path: str,
        parts: Mapping[str, Any],
        optimization: Optimization,
        loader: TwoStreamLoader,
        settings: Mapping[str, Any] | None = None,
        interval_minutes: float = 5.0,
        resume: bool = True,
    ) -> None:
        self.path = Path(path)
        self.parts = {**{name: undistributed(part) for name, part in parts.items()}, "optimization": optimization}
        self.optimization = optimization
        self.loader = loader
        self.settings = dict(settings or {})
        self.interval_seconds = interval_minutes * 60.0
        self.resume = resume
        self._stop_asked = threading.Event()
        self._saved_at = time.monotonic()
        self._previous_signal_handler: Any = None
        self._agreement = Agreement()

    def attach(self, engine: Engine) -> None:
        """Register with the trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._after_iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._after_epoch)
        engine.add_event_handler(Events.COMPLETED, self._finish)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _start(self, engine: Engine) -> None:
        if threading.current_thread() is threading.main_thread():
            self._previous_signal_handler = signal.signal(signal.SIGTERM, self._ask_to_stop)
        self._saved_at = time.monotonic()
        # All follow what the main process sees, or some would wait for ever in the middle of a run
        if self._agreement.any(is_main_process() and self.resume and self.path.exists())[0]:
            self.load(engine)

    def _ask_to_stop(self, signal_number: int, frame: FrameType | None) -> None:
        self._stop_asked.set()

    def _after_iteration(self, engine: Engine) -> None:
        # The last iteration of an epoch waits for the validation that follows it
        if self.optimization.at_boundary and engine.state.iteration % engine.state.epoch_length:
            self._save_if_due(engine)

    def _after_epoch(self, engine: Engine) -> None:
        if self.optimization.at_boundary:
            self._save_if_due(engine)

    def _save_if_due(self, engine: Engine) -> None:
        due = is_main_process() and time.monotonic() - self._saved_at >= self.interval_seconds
        stopping, due = self._agreement.any(self._stop_asked.is_set(), due)
        if stopping or due:
            self.save(engine)
        if stopping:
            # torchrun kills the others as soon as one has ended, so none may end before the file is written
            wait_for_all()
            _logger.warning("stopped by SIGTERM at iteration %d; the same command resumes", engine.state.iteration)
            # Not an error of the run: the process ends, whoever drives the engine
            raise SystemExit(exit_codes.STOPPED)

    def _finish(self, engine: Engine) -> None:
        self.save(engine)
        self._release()

    def _fail(self, engine: Engine, error: BaseException) -> None:
        self._release()
        raise error

    def _release(self) -> None:
        if self._previous_signal_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_signal_handler)
            self._previous_signal_handler = None

    def save(self, engine: Engine) -> None:
        """Write the state, whole or not at all; the previous file stays until the new one is complete.

        A joint act of all processes: each adds the state of its random generators.
        """
        random = list(self._agreement.gather(capture_random_state()))
        self._saved_at = time.monotonic()
        if not is_main_process():
            return
        state = {
            "format": _FORMAT,
            "iteration": engine.state.iteration,
            "epoch_length": engine.state.epoch_length,
            "settings": self.settings,
            "processes": process_count(),
            "random": random,
            "parts": {name: part.state_dict() for name, part in self.parts.items()},
        }
        # Given a path instead of a stream, torch would not say that the disk is full
        with atomic_path(self.path) as temporary, temporary.open("wb") as stream:
            torch.save(state, stream)

    def load(self, engine: Engine) -> None:
        """Continue from the file.

        Raises:
            CheckpointError: If the file cannot be read, or belongs to a run with other settings.
        """
        state = _read(self.path)
        self._refuse_changes(engine, state)
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        restore_random_state(state["random"][process_rank()])
        engine.state.iteration = state["iteration"]
        engine.state.epoch = state["iteration"] // state["epoch_length"]
        self.loader.start_at(state["iteration"])
        _logger.info("resumed %s at iteration %d", self.path, state["iteration"])

    def _refuse_changes(self, engine: Engine, state: dict[str, Any]) -> None:
        shape = {key: state[key] for key in ("epoch_length", "processes")}
        saved = {**state["settings"], **shape, "parts": sorted(state["parts"])}
        shape = {"epoch_length": engine.state.epoch_length, "processes": process_count()}
        current = {**self.settings, **shape, "parts": sorted(self.parts)}
        changed = [
            f"  {key}: saved {saved.get(key)!r}, now {current.get(key)!r}"
            for key in sorted(saved.keys() | current.keys())
            if saved.get(key) != current.get(key)
        ]
        if changed:
            message = f"{self.path}: belongs to a run with other settings:\n" + "\n".join(changed)
            message += "\nPut the settings back to resume, or start a new run in another folder."
            raise CheckpointError(message)


def _read(path: Path) -> dict[str, Any]:
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises whatever its unpickler meets
        message = f"{path}: expected a resume file of medssl, found something unreadable ({type(error).__name__})."
        raise CheckpointError(message + " Remove it to start over.") from error
    if not isinstance(state, dict) or state.get("format") != _FORMAT or not state.keys() >= _KEYS:
        message = f"{path}: expected a resume file of format {_FORMAT}. Remove it to start over."
        raise CheckpointError(message)
    return state
