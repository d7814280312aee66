"""Stages that overlap: each has its own threads, queues between them are bounded by bytes, and nothing waits for ever.

One item that fails, hangs or takes long does not stop the others. Errors are values: every item that goes in comes out
once, with its result or with what went wrong and where.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from medssl.core.errors import ResourceError

_POLL_SECONDS = 0.2


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One station of the line.

    Attributes:
        name: For messages and timings.
        work: Takes what the stage before returned, returns what the next one takes, or `Finished`.
        workers: Threads.
    """

    name: str
    work: Callable[[Any], Any]
    workers: int = 1


@dataclass(frozen=True)
class Finished:
    """Returned by a stage whose item needs no further stage."""

    value: Any


@dataclass(kw_only=True, eq=False)
class Outcome:
    """What became of one item.

    Attributes:
        item: What went in.
        value: Result of the last stage, or None.
        error: What went wrong, or None.
        stage: Where it ended.
        seconds: Time in each stage, waiting not counted.
    """

    item: Any
    value: Any = None
    error: BaseException | None = None
    stage: str = ""
    seconds: dict[str, float]
    abandoned: bool = False
    started: float = 0.0
    size: int = 0


def run_stages(
    items: Sequence[Any],
    stages: Sequence[Stage],
    *,
    size_of: Callable[[Any], int],
    queue_bytes: int,
    stall_seconds: float,
) -> Iterator[Outcome]:
    """Send items through the stages and yield each one's outcome as soon as it is known.

    Args:
        items: What the first stage takes.
        stages: Stations in order.
        size_of: Bytes that a value holds while it waits.
        queue_bytes: Most bytes waiting before a stage; one value always fits.
        stall_seconds: An item longer than this in one stage is given up: it becomes a failure, and a fresh thread takes
            the place of the one that hangs.
    """
    line = _Line(items, stages, size_of=size_of, queue_bytes=queue_bytes, stall_seconds=stall_seconds)
    try:
        line.start()
        yield from line.outcomes()
    finally:
        line.stop()


class _Line:
    def __init__(
        self,
        items: Sequence[Any],
        stages: Sequence[Stage],
        *,
        size_of: Callable[[Any], int],
        queue_bytes: int,
        stall_seconds: float,
    ) -> None:
        self._stages = stages
        self._size_of = size_of
        self._queue_bytes = queue_bytes
        self._stall_seconds = stall_seconds
        self._changed = threading.Condition()
        self._queues: list[deque[Outcome]] = [deque() for _ in stages]
        self._queues[0].extend(Outcome(item=item, value=item, seconds={}) for item in items)
        self._working: dict[Outcome, int] = {}
        self._done: deque[Outcome] = deque()
        self._remaining = len(items)
        self._stopped = False
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        for number, stage in enumerate(self._stages):
            for _ in range(stage.workers):
                self._start_worker(number)

    def outcomes(self) -> Iterator[Outcome]:
        while self._remaining:
            with self._changed:
                if not self._done:
                    self._changed.wait(_POLL_SECONDS)
                self._give_up_stalled()
                ready = list(self._done)
                self._done.clear()
                self._remaining -= len(ready)
            yield from ready

    def stop(self, *, patience_seconds: float = 10.0) -> None:
        """Let every thread end its current piece of work; one that hangs is left behind as a daemon."""
        with self._changed:
            self._stopped = True
            hanging = any(outcome.abandoned for outcome in self._working)
            self._changed.notify_all()
        deadline = time.monotonic() + (0.1 if hanging else patience_seconds)
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0.0))

    def _start_worker(self, number: int) -> None:
        name = self._stages[number].name
        thread = threading.Thread(target=self._work, args=(number,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _work(self, number: int) -> None:
        stage = self._stages[number]
        while (outcome := self._take(number)) is not None:
            try:
                value, error = stage.work(outcome.value), None
            except BaseException as problem:  # whatever it is belongs to this item and must not end the thread
                value, error = None, problem
            if not self._hand_on(outcome, number, value, error):
                return
            del outcome, value, error  # a waiting worker must not keep the last volume alive

    def _take(self, number: int) -> Outcome | None:
        with self._changed:
            while not self._queues[number]:
                if self._stopped:
                    return None
                self._changed.wait(_POLL_SECONDS)
            if self._stopped:
                return None
            outcome = self._queues[number].popleft()
            outcome.started = time.monotonic()
            self._working[outcome] = number
            self._changed.notify_all()
            return outcome

    def _hand_on(self, outcome: Outcome, number: int, value: Any, error: BaseException | None) -> bool:
        """Pass an item to where it goes next; False ends the thread, because another has taken its place."""
        with self._changed:
            self._working.pop(outcome, None)
            if outcome.abandoned:
                return False
            outcome.seconds[self._stages[number].name] = time.monotonic() - outcome.started
            outcome.stage = self._stages[number].name
            last = number + 1 == len(self._stages)
            if error is not None or isinstance(value, Finished) or last:
                outcome.value = value.value if isinstance(value, Finished) else value
                outcome.error = error
                self._done.append(outcome)
            else:
                outcome.value, outcome.size = value, self._size_of(value)
                self._wait_for_room(number + 1, outcome.size)
                self._queues[number + 1].append(outcome)
            self._changed.notify_all()
            return not self._stopped

    def _wait_for_room(self, number: int, size: int) -> None:
        queue = self._queues[number]
        while queue and not self._stopped and sum(waiting.size for waiting in queue) + size > self._queue_bytes:
            self._changed.wait(_POLL_SECONDS)

    def _give_up_stalled(self) -> None:
        now = time.monotonic()
        for outcome, number in list(self._working.items()):
            if outcome.abandoned or now - outcome.started < self._stall_seconds:
                continue
            outcome.abandoned = True
            name = self._stages[number].name
            text = f"stage {name}: expected an end within {self._stall_seconds:g} s, found none."
            fix = "Check the disk or network drive, or raise --time-limit."
            failed = Outcome(item=outcome.item, stage=name, seconds=dict(outcome.seconds))
            failed.error = ResourceError(text, fix=fix, code="stalled")
            self._done.append(failed)
            self._start_worker(number)
