"""SIGKILL at random moments of a save: the file is the old one or the new one, and loads."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from methods.umct.small_umct import small_umct
from training.small_run import small_run, weights_equal

from medssl.core.files import sweep_leftovers
from medssl.training.selection import save_weights

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
_KILLS = 15


def _save_number(path: Path, number: int) -> None:
    network = torch.nn.Linear(200, 500)
    torch.nn.init.constant_(network.weight, number)
    torch.nn.init.constant_(network.bias, number)
    save_weights(path, network)


def _save_for_ever(path: Path, first: int) -> None:
    """Save networks whose weights all are one number, which grows."""
    for number in range(first, first + 100_000):
        _save_number(path, number)


def _kill_a_child(work: Callable[[], None], *, written: Path, seconds: float) -> None:
    """Let a child work until it has written the file once, and kill it a moment later."""
    before = _modified(written)
    child = os.fork()
    if child == 0:
        try:
            work()
        finally:
            os._exit(1)
    deadline = time.monotonic() + 20
    while _modified(written) == before and time.monotonic() < deadline:
        time.sleep(0.005)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


def _modified(path: Path) -> int:
    return path.stat().st_mtime_ns if path.exists() else 0


@pytest.mark.timeout(60)
def test_weights_are_old_or_new_after_each_kill(tmp_path: Path) -> None:
    path, rng, seen = tmp_path / "model.pt", random.Random(0), [0]
    _save_number(path, 0)
    for _ in range(_KILLS):
        first = seen[-1] + 1
        _kill_a_child(partial(_save_for_ever, path, first), written=path, seconds=rng.uniform(0, 0.04))
        numbers = torch.cat([tensor.flatten() for tensor in torch.load(path, weights_only=True).values()]).unique()
        seen.append(int(numbers.item()))  # one number: nothing of two saves is mixed
    assert seen == sorted(set(seen))  # every child did save
    sweep_leftovers(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.timeout(60)
def test_a_run_killed_while_it_saves_goes_on(tmp_path: Path) -> None:
    small_run(tmp_path / "calm", epochs=3).trainer.run()
    rng, reached, last = random.Random(1), [0], tmp_path / "wild" / "last.pt"
    for _ in range(5):
        _kill_a_child(partial(_train_slowly, tmp_path / "wild"), written=last, seconds=rng.uniform(0, 0.15))
        reached.append(torch.load(last, weights_only=True)["iteration"])
    assert reached == sorted(set(reached))
    assert reached[-1] < 12  # killed before the end
    small_run(tmp_path / "wild", epochs=3).trainer.run()
    calm, wild = (_network(tmp_path / name / "last.pt") for name in ("calm", "wild"))
    assert all(torch.equal(calm[name], wild[name]) for name in calm)


@pytest.mark.timeout(60)
def test_a_co_training_run_killed_in_its_second_stage_goes_on(tmp_path: Path) -> None:
    calm, last = small_umct(tmp_path / "calm"), tmp_path / "wild" / "last.pt"
    calm.trainer.run()
    with pytest.raises(SystemExit):
        small_umct(tmp_path / "wild", on_batch=_stop_after_stage_1).trainer.run()
    rng, reached = random.Random(2), [torch.load(last, weights_only=True)["iteration"]]
    for _ in range(2):
        _kill_a_child(partial(_cotrain_slowly, tmp_path / "wild"), written=last, seconds=rng.uniform(0, 0.15))
        reached.append(torch.load(last, weights_only=True)["iteration"])
    assert 6 == reached[0] < reached[1] < reached[2] < 12
    wild = small_umct(tmp_path / "wild")
    wild.trainer.run()
    assert weights_equal(calm.network, wild.network)


def _stop_after_stage_1(iteration: int) -> None:
    if iteration == 6:
        os.kill(os.getpid(), signal.SIGTERM)


def _cotrain_slowly(folder: Path) -> None:
    small_umct(folder, save_minutes=0, on_batch=lambda _: time.sleep(0.1)).trainer.run()


def _network(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["parts"]["network"]


def _train_slowly(folder: Path) -> None:
    small_run(folder, epochs=3, save_minutes=0, on_batch=lambda _: time.sleep(0.1)).trainer.run()
