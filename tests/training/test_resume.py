"""Interrupted and resumed equals uninterrupted; a changed or broken state is refused."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from processes import in_processes
from training.process_runs import stopped_and_resumed
from training.small_run import small_run, weights_equal

from medssl.core import exit_codes
from medssl.core.errors import CheckpointError


def _stop_at(iteration: int):
    def stop(current: int) -> None:
        if current == iteration:
            os.kill(os.getpid(), signal.SIGTERM)

    return stop


@pytest.mark.parametrize("iteration", [1, 4, 6, 11])
def test_a_run_stopped_by_sigterm_and_resumed_equals_an_undisturbed_one(tmp_path: Path, iteration: int) -> None:
    undisturbed = small_run(tmp_path / "a")
    undisturbed.trainer.run()
    stopped = small_run(tmp_path / "b", on_batch=_stop_at(iteration))
    with pytest.raises(SystemExit) as stop:
        stopped.trainer.run()
    resumed = small_run(tmp_path / "b")
    resumed.trainer.run()
    assert stop.value.code == exit_codes.STOPPED
    assert resumed.trainer.state.iteration == 12
    assert weights_equal(undisturbed.network, resumed.network)


def test_resume_inside_an_accumulation_waits_for_the_optimiser_step(tmp_path: Path) -> None:
    undisturbed = small_run(tmp_path / "a", accumulation=2)
    undisturbed.trainer.run()
    with pytest.raises(SystemExit):
        small_run(tmp_path / "b", accumulation=2, on_batch=_stop_at(5)).trainer.run()
    assert torch.load(tmp_path / "b" / "last.pt", weights_only=True)["iteration"] == 6
    resumed = small_run(tmp_path / "b", accumulation=2)
    resumed.trainer.run()
    assert weights_equal(undisturbed.network, resumed.network)


def test_a_run_that_dies_without_warning_loses_at_most_one_interval(tmp_path: Path) -> None:
    def die(iteration: int) -> None:
        if iteration == 7:
            raise KeyboardInterrupt

    undisturbed = small_run(tmp_path / "a")
    undisturbed.trainer.run()
    with pytest.raises(KeyboardInterrupt):
        small_run(tmp_path / "b", on_batch=die, save_minutes=0).trainer.run()
    resumed = small_run(tmp_path / "b", save_minutes=0)
    resumed.trainer.run()
    assert weights_equal(undisturbed.network, resumed.network)


def test_more_epochs_continue_a_finished_run(tmp_path: Path) -> None:
    small_run(tmp_path, epochs=2).trainer.run()
    longer = small_run(tmp_path, epochs=3)
    longer.trainer.run()
    assert longer.trainer.state.iteration == 12
    assert longer.trainer.state.epoch == 3


def test_other_settings_are_refused_with_a_difference(tmp_path: Path) -> None:
    small_run(tmp_path, epochs=1).trainer.run()
    with pytest.raises(CheckpointError, match="seed: saved 0, now 1"):
        small_run(tmp_path, epochs=1, seed=1).trainer.run()


def test_a_broken_resume_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "last.pt").write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match=r"last\.pt"):
        small_run(tmp_path).trainer.run()


def test_the_signal_handler_of_the_program_comes_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    small_run(tmp_path, epochs=1).trainer.run()
    assert signal.getsignal(signal.SIGTERM) is before


def test_workers_do_not_change_a_run(tmp_path: Path) -> None:
    alone = small_run(tmp_path / "a", epochs=1)
    alone.trainer.run()
    helped = small_run(tmp_path / "b", epochs=1, num_workers=2)
    helped.trainer.run()
    assert weights_equal(alone.network, helped.network)


@pytest.mark.parametrize("iteration", [2, 4])
def test_processes_stop_together_and_resume_as_if_undisturbed(tmp_path: Path, iteration: int) -> None:
    main, other = in_processes(stopped_and_resumed, tmp_path, iteration)
    assert main["code"] == other["code"] == exit_codes.STOPPED
    assert main["stopped_at"] == other["stopped_at"] == main["saved_at"] == iteration
    assert main["files"] == ["last.pt"]
    assert not np.array_equal(*main["random"])
    for process in (main, other):
        for name, values in main["undisturbed"].items():
            assert np.array_equal(process["resumed"][name], values)


def test_a_run_of_two_processes_is_not_continued_by_one(tmp_path: Path) -> None:
    saved = in_processes(stopped_and_resumed, tmp_path, 3)[0]
    assert not any(name.startswith("module.") for name in saved["names"])
    with pytest.raises(CheckpointError, match="processes: saved 2, now 1"):
        small_run(tmp_path / "stopped").trainer.run()
