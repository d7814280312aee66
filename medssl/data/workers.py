"""Run one function over many cases in processes, so that no case can take the others with it."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import TypeVar

from medssl.core.cores import usable_cores
from medssl.core.errors import ResourceError

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

# A process takes about two seconds to start, in which one process decompresses and looks at this much.
_BYTES_FOR_A_WORKER = 32 * 2**20

# A CT of 512 x 512 x 1000 is read and looked at in about 20 s
STALL_SECONDS = 900.0


def default_workers(files: Iterable[Path]) -> int:
    """Return how many processes pay for reading these files; 0 means none beside this one.

    200 volumes of 40 KB (MSD Task04, images and labels) take 2 s in this process and 7 s with two more.
    """
    total = sum(_size(path) for path in files)
    workers = min(usable_cores(), 16, total // _BYTES_FOR_A_WORKER)
    return workers if workers > 1 else 0


def default_threads() -> int:
    """Return how many items to read at once in one process; each holds a volume in memory."""
    return min(usable_cores(), 4)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except (OSError, ValueError):
        return 0  # what is wrong with the file is for the one who reads it to say


def map_isolated(
    function: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    workers: int,
    threads: int = 1,
    stall_seconds: float = STALL_SECONDS,
) -> list[_Result | Exception]:
    """Apply `function` to each item; a failure, even one that hangs or kills its process, stays with its item.

    Processes are spawned, so function and items must be picklable and the result does not depend on the
    number of workers. When a process dies, the items it may have died of are run again, each alone.

    Args:
        function: Function of a module.
        items: What it is applied to.
        workers: Number of processes; 0 runs everything in this one, which then dies with a fatal item.
        threads: How many items at once where there are no processes, for functions that spend their time outside of
            Python: decompressing, hashing, NumPy.
        stall_seconds: An item that takes longer is given up.

    Returns:
        For each item, in order, the result or the exception. A death is a `ResourceError` ("worker-died"), and so is
        an item that was given up ("stalled").
    """
    if workers < 1:
        return _in_threads(function, items, threads=threads, stall_seconds=stall_seconds)
    outcomes: dict[int, _Result | Exception] = {}
    waiting = deque(range(len(items)))
    while waiting:
        guarded = partial(_guarded, function, stall_seconds)
        for suspect in _run_pool(guarded, items, waiting=waiting, outcomes=outcomes, workers=workers):
            begin = time.monotonic()
            if _run_pool(guarded, items, waiting=deque([suspect]), outcomes=outcomes, workers=1):
                hung = time.monotonic() - begin >= stall_seconds
                outcomes[suspect] = _stalled(stall_seconds) if hung else _death()
    return [outcomes[index] for index in range(len(items))]


def _attempt(function: Callable[[_Item], _Result], item: _Item) -> _Result | Exception:
    try:
        return function(item)
    except Exception as error:  # whatever it is, it belongs to this item alone
        return error


def _guarded(function: Callable[[_Item], _Result], stall_seconds: float, item: _Item) -> _Result | Exception:
    """Attempt an item in a process that ends itself if this takes too long, wherever in C or Python it hangs."""
    with Path(os.devnull).open("w") as nowhere:
        faulthandler.dump_traceback_later(stall_seconds, exit=True, file=nowhere)
        try:
            return _attempt(function, item)
        finally:
            faulthandler.cancel_dump_traceback_later()


def _in_threads(
    function: Callable[[_Item], _Result], items: Sequence[_Item], *, threads: int, stall_seconds: float
) -> list[_Result | Exception]:
    """Attempt items in threads of this process, so many at once; one that hangs is left behind."""
    outcomes: dict[int, _Result | Exception] = {}
    waiting = deque(range(len(items)))
    running: dict[Future[_Result | Exception], tuple[int, float]] = {}
    while waiting or running:
        while waiting and len(running) < threads:
            index = waiting.popleft()
            running[_begun(function, items[index])] = (index, time.monotonic() + stall_seconds)
        nearest = min(deadline for _, deadline in running.values())
        wait(running, timeout=max(0.0, nearest - time.monotonic()), return_when=FIRST_COMPLETED)
        for future, (index, deadline) in list(running.items()):
            if future.done():
                outcomes[index] = future.result()
            elif time.monotonic() < deadline:
                continue
            else:
                outcomes[index] = _stalled(stall_seconds)
            del running[future]
    return [outcomes[index] for index in range(len(items))]


def _begun(function: Callable[[_Item], _Result], item: _Item) -> Future[_Result | Exception]:
    """Start an item in a thread that does not keep the process alive, as those of a pool would."""
    future: Future[_Result | Exception] = Future()

    def work() -> None:
        try:
            future.set_result(_attempt(function, item))
        except BaseException as error:  # such as an exit: for the caller's thread to raise
            future.set_exception(error)

    threading.Thread(target=work, name="item", daemon=True).start()
    return future


def _run_pool(
    function: Callable[[_Item], _Result | Exception],
    items: Sequence[_Item],
    *,
    waiting: deque[int],
    outcomes: dict[int, _Result | Exception],
    workers: int,
) -> list[int]:
    """Work off `waiting`; return what was under way when a process died, or an empty list."""
    running: dict[Future[_Result | Exception], int] = {}
    context = multiprocessing.get_context("spawn")
    size = min(workers, len(waiting))
    with ProcessPoolExecutor(size, mp_context=context, initializer=_end_with_parent) as pool:
        while waiting or running:
            while waiting and len(running) < 2 * workers:
                index = waiting.popleft()
                try:
                    running[pool.submit(function, items[index])] = index
                except BrokenProcessPool:
                    return [*_under_way(running, outcomes), index]
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
                return _under_way(running, outcomes)
            for future in done:
                outcomes[running.pop(future)] = _outcome(future)
    return []


def _end_with_parent() -> None:
    """Make this process end when the one that started it is killed, instead of working on for nobody."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            connection.wait([parent.sentinel])
            os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


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


def _stalled(seconds: float) -> ResourceError:
    text = f"expected an end within {seconds:g} s, found none: the disk or network drive may hang."
    return ResourceError(text, fix="Look at the drive and at this file alone, or leave the case out.", code="stalled")


def _death() -> ResourceError:
    text = "expected the worker process to end its work, found that it died: killed, out of memory or a crash."
    return ResourceError(text, fix="Use fewer --workers, or look at this file alone.", code="worker-died")
