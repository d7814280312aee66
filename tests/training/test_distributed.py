"""Two processes on one network: the same gradient, the same decisions, one file. Gloo on the CPU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from monai.losses import DiceCELoss
from processes import in_processes
from training.process_runs import agreed, one_bad_loss, trained

from medssl.core.errors import ConfigError
from medssl.training import join_processes
from medssl.training.distributed import Agreement, mean_over_processes, process_count


@pytest.mark.parametrize("accumulation", [1, 2])
def test_two_processes_train_as_one_with_twice_the_batch(tmp_path: Path, accumulation: int) -> None:
    weights, losses = trained(tmp_path / "one", 4, accumulation)
    for other, seen in in_processes(trained, tmp_path / "two", 2, accumulation):
        assert seen == pytest.approx(losses, rel=1e-6)
        for name, values in weights.items():
            assert np.abs(other[name] - values).max() <= 1e-6 * max(1.0, np.abs(values).max())


def test_the_comparison_would_see_another_gradient(tmp_path: Path) -> None:
    weights, losses = trained(tmp_path / "one", 4)
    others, seen = trained(tmp_path / "half", 2)
    assert seen != pytest.approx(losses, rel=1e-4)
    assert max(np.abs(others[name] - values).max() for name, values in weights.items()) > 1e-4


@pytest.mark.parametrize("joined", [False, True])
def test_a_loss_that_is_a_mean_over_samples_may_be_averaged_over_processes(joined: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(4, 3, 4, 4, 4, generator=generator)
    labels = torch.randint(0, 3, (4, 1, 4, 4, 4), generator=generator)
    loss = DiceCELoss(to_onehot_y=True, softmax=True, batch=joined)
    parts = (loss(logits[:2], labels[:2]) + loss(logits[2:], labels[2:])) / 2
    # With batch=True a Dice joins the samples of one process, and the mean of two is another one
    assert (float(parts) == pytest.approx(float(loss(logits, labels)), rel=1e-6)) is not joined


def test_a_bad_loss_in_one_process_skips_the_step_in_all() -> None:
    # Weight 0, gradient 1, rate 1: the second update alone moves the weight, and its loss is the mean of 0 and 2
    assert in_processes(one_bad_loss) == [(-1.0, 1.0, 1)] * 2


def test_a_flag_of_one_process_is_seen_by_all() -> None:
    main, other = in_processes(agreed)
    assert main["any"] == other["any"] == (True, False)
    assert (main["gathered"], other["gathered"]) == ([0, 1], [])


def test_one_process_agrees_with_itself() -> None:
    agreement = Agreement()
    assert agreement.any(True, False) == (True, False)
    assert agreement.gather("state") == ["state"]
    assert process_count() == 1
    assert mean_over_processes(torch.tensor(3.0)) == 3.0


def test_a_multi_gpu_configuration_without_torchrun_says_how_to_start() -> None:
    with pytest.raises(ConfigError, match="torchrun --standalone"):
        join_processes(device="cpu")


def test_a_gpu_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cuda:99: this machine shows \d+ GPUs"):
        join_processes(device="cuda:99")
