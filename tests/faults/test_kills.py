"""SIGKILL at random moments of a save: the file is the old one or the new one, and loads."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch
from training.small_run import small_run

from medssl.core.files import sweep_leftovers
from medssl.training.selection import save_weights

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
_KILLS = 25


def _save_number(path: Path, number: int) -> None:
    network = torch.nn.Linear(200, 500)
    torch.nn.init.constant_(network.weight, number)
    torch.nn.init.constant_(network.bias, number)
    save_weights(path, network)


def _save_for_ever(path: Path, first: int) -> None:
    """Save networks whose weights all are one number, which grows."""
    for number in range(first, first + 100_000):
        _save_number(path, number)


def _kill_a_child(work, *arguments, seconds: float) -> None:
    child = os.fork()
    if child == 0:
        try:
            work(*arguments)
        finally:
            os._exit(1)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    assert os.WIFSIGNALED(os.waitpid(child, 0)[1])


@pytest.mark.timeout(60)
def test_weights_are_old_or_new_after_each_kill(tmp_path: Path) -> None:
    path, rng, seen = tmp_path / "model.pt", random.Random(0), [0]
    _save_number(path, 0)
    for _ in range(_KILLS):
        _kill_a_child(_save_for_ever, path, seen[-1] + 1, seconds=rng.uniform(0.02, 0.12))
        numbers = torch.cat([tensor.flatten() for tensor in torch.load(path, weights_only=True).values()]).unique()
        seen.append(int(numbers.item()))  # one number: nothing of two saves is mixed
    assert len(set(seen)) > _KILLS // 2  # the children did save
    assert seen == sorted(seen)
    sweep_leftovers(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.timeout(60)
def test_a_run_killed_while_it_saves_goes_on(tmp_path: Path) -> None:
    small_run(tmp_path / "calm", epochs=3).trainer.run()
    rng, reached = random.Random(1), [0]
    for _ in range(6):
        _kill_a_child(lambda: _train_slowly(tmp_path / "wild"), seconds=rng.uniform(0.2, 0.6))
        last = tmp_path / "wild" / "last.pt"
        reached.append(torch.load(last, weights_only=True)["iteration"] if last.exists() else 0)
    assert reached == sorted(reached)
    assert 0 < reached[-1] < 12  # killed before the end
    small_run(tmp_path / "wild", epochs=3).trainer.run()
    calm, wild = (_network(tmp_path / name / "last.pt") for name in ("calm", "wild"))
    assert all(torch.equal(calm[name], wild[name]) for name in calm)


def _network(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["parts"]["network"]


def _train_slowly(folder: Path) -> None:
    small_run(folder, epochs=3, save_minutes=0, on_batch=lambda _: time.sleep(0.15)).trainer.run()
