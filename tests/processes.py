"""Functions run in several joined CPU processes, as torchrun would start them, without an import of MONAI for each."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable
from typing import Any

_SECONDS = 240
_PRELOADED = ["medssl.methods.supervised", "monai.bundle", "monai.handlers", "nibabel", "torch._dynamo"]


def in_processes(function: Callable[..., Any], *arguments: Any, count: int = 2) -> list[Any]:
    """Call a module-level function in `count` processes that know each other; return what they return, by rank.

    The first call of a session imports MONAI once, in a server of which all processes are forks.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    results = context.Queue()
    known = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port()}
    processes = [
        context.Process(target=_process, args=(results, {**known, "RANK": rank}, function, arguments), daemon=True)
        for rank in range(count)
    ]
    for process in processes:
        process.start()
    try:
        answers = dict(results.get(timeout=_SECONDS) for _ in processes)
    finally:
        for process in processes:
            process.join(timeout=10)
            process.kill()
    for answer in answers.values():
        if isinstance(answer, BaseException):
            raise answer
    return [answers[rank] for rank in range(count)]


def _process(results: Any, known: dict[str, Any], function: Callable, arguments: tuple) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    # What torchrun tells its processes
    known = {**known, "LOCAL_RANK": known["RANK"], "TORCHELASTIC_RUN_ID": "tests"}
    os.environ.update({name: str(value) for name, value in known.items()})
    try:
        answer = function(*arguments)
    except BaseException as error:
        answer = error
    results.put((known["RANK"], answer))
    results.close()
    results.join_thread()
    if dist.is_initialized() and not isinstance(answer, BaseException):
        dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
