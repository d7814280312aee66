"""Run one function over many items in worker processes; a worker that dies costs one item, not the batch."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int,
    on_death: Callable[[Item], Result],
) -> list[Result]:
    """Return `function(item)` for every item, in the order of the items.

    When a worker dies, the items that were under way are tried again one by one, each in a process of its own; the
    one that kills that too gets `on_death(item)`. Processes are spawned, so scripts need the usual
    `if __name__ == "__main__"`.

    Args:
        function: A function of a module (it is pickled) that does not raise.
        items: What to work on.
        workers: Number of processes; 1 works in this process, where a death cannot be caught.
        on_death: Makes the result of an item that kills its worker.
    """
    if workers <= 1:
        return [function(item) for item in items]
    results: dict[int, Result] = {}
    waiting = deque(range(len(items)))
    while waiting:
        for suspect in _work(function, items, waiting, results, workers):
            if _work(function, items, deque([suspect]), results, 1):
                results[suspect] = on_death(items[suspect])
    return [results[index] for index in range(len(items))]


def _work(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    waiting: deque[int],
    results: dict[int, Result],
    workers: int,
) -> list[int]:
    """Empty `waiting` into `results`; return the items that were under way when a worker died, if one did."""
    flying: dict[Future[Result], int] = {}
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        while waiting or flying:
            # one more than workers, so that none waits for its next item, and few are suspects after a death
            while waiting and len(flying) <= workers:
                index = waiting.popleft()
                try:
                    flying[pool.submit(function, items[index])] = index
                except BrokenProcessPool:
                    waiting.appendleft(index)
                    break
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            dead = [future for future in done if isinstance(future.exception(), BrokenProcessPool)]
            for future in done.difference(dead):
                results[flying.pop(future)] = future.result()
            if dead:
                return sorted(flying.values())
    return []
