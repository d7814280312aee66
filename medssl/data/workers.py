"""Run one function over many cases in processes, so that no case can take the others with it."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from medssl.core.errors import ResourceError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# A process takes about two seconds to start, in which one process decompresses and looks at this much.
_BYTES_FOR_A_WORKER = 32 * 2**20


def default_workers(files: Iterable[Path]) -> int:
    """Return how many processes pay for reading these files; 0 means none beside this one.

    200 volumes of 40 KB (MSD Task04, images and labels) take 2 s in this process and 7 s with two more.
    """
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    total = sum(_size(path) for path in files)
    workers = min(usable, 16, total // _BYTES_FOR_A_WORKER)
    return workers if workers > 1 else 0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0  # what is wrong with the file is for the one who reads it to say


def map_isolated(
    function: Callable[[_Item], _Result], items: Sequence[_Item], *, workers: int
) -> list[_Result | Exception]:
    """Apply `function` to each item; a failure, even the death of a process, stays with its item.

    Processes are spawned, so function and items must be picklable and the result does not depend on the
    number of workers. When a process dies, the items it may have died of are run again, each alone.

    Args:
        function: Function of a module.
        items: What it is applied to.
        workers: Number of processes; 0 runs everything in this one, which then dies with a fatal item.

    Returns:
        For each item, in order, the result or the exception. A death is a `ResourceError` ("worker-died").
    """
    if workers < 1:
        return [_attempt(function, item) for item in items]
    outcomes: dict[int, _Result | Exception] = {}
    waiting = deque(range(len(items)))
    while waiting:
        for suspect in _run_pool(function, items, waiting=waiting, outcomes=outcomes, workers=workers):
            if _run_pool(function, items, waiting=deque([suspect]), outcomes=outcomes, workers=1):
                outcomes[suspect] = _death()
    return [outcomes[index] for index in range(len(items))]


def _attempt(function: Callable[[_Item], _Result], item: _Item) -> _Result | Exception:
    try:
        return function(item)
    except Exception as error:  # whatever it is, it belongs to this item alone
        return error


def _run_pool(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    waiting: deque[int],
    outcomes: dict[int, _Result | Exception],
    workers: int,
) -> list[int]:
    """Work off `waiting`; return what was under way when a process died, or an empty list."""
    running: dict[Future[_Result | Exception], int] = {}
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(waiting)), mp_context=context) as pool:
        while waiting or running:
            while waiting and len(running) < 2 * workers:
                index = waiting.popleft()
                try:
                    running[pool.submit(_attempt, function, items[index])] = index
                except BrokenProcessPool:
                    return [*_under_way(running, outcomes), index]
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                return _under_way(running, outcomes)
            for future in done:
                outcomes[running.pop(future)] = _outcome(future)
    return []


def _under_way(running: dict[Future[_Result | Exception], int], outcomes: dict[int, _Result | Exception]) -> list[int]:
    wait(running)
    lost = []
    for future, index in running.items():
        if isinstance(future.exception(), BrokenProcessPool):
            lost.append(index)
        else:
            outcomes[index] = _outcome(future)
    return lost


def _outcome(future: Future[_Result | Exception]) -> _Result | Exception:
    error = future.exception()
    # A result that cannot be pickled arrives as an exception of the future
    return future.result() if error is None else RuntimeError(str(error))


def _death() -> ResourceError:
    text = "expected the worker process to end its work, found that it died: killed, out of memory or a crash."
    return ResourceError(text, fix="Use fewer --workers, or look at this file alone.", code="worker-died")
