"""Learning-rate curves and their length."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medssl.core.errors import ConfigError
from medssl.training import Schedule
from medssl.training.schedules import constant, one_cycle, polynomial, warmup_cosine


def _schedule(total: int, kind: str = "one_cycle") -> Schedule:
    parameter = torch.nn.Parameter(torch.zeros(1))
    return Schedule(optimizer=torch.optim.SGD([parameter], lr=2.0), total_steps=total, kind=kind)


@given(st.floats(0, 1), st.sampled_from([one_cycle, warmup_cosine, polynomial, constant]))
def test_factors_stay_between_zero_and_one(share: float, curve) -> None:
    assert -1e-12 <= curve(share) <= 1 + 1e-12


@pytest.mark.parametrize("curve, joint", [(one_cycle, 0.3), (warmup_cosine, 0.05)])
def test_curves_are_continuous_at_their_joint_and_reach_one_there(curve, joint: float) -> None:
    assert curve(joint - 1e-9) == pytest.approx(curve(joint + 1e-9), abs=1e-6)
    assert curve(joint) == pytest.approx(1.0)


def test_the_rate_follows_the_steps() -> None:
    schedule = _schedule(10)
    for _ in range(3):
        schedule.step()
    assert schedule.optimizer.param_groups[0]["lr"] == pytest.approx(2.0)
    for _ in range(20):
        schedule.step()
    assert schedule.optimizer.param_groups[0]["lr"] == pytest.approx(8e-6)


def test_a_longer_run_follows_the_longer_curve_after_loading() -> None:
    short, long = _schedule(10), _schedule(100)
    for _ in range(5):
        short.step()
    long.load_state_dict(short.state_dict())
    assert long.optimizer.param_groups[0]["lr"] == pytest.approx(2.0 * one_cycle(0.05))


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 step"):
        _schedule(0)
    with pytest.raises(ConfigError, match="the kinds are"):
        _schedule(5, kind="zigzag")
