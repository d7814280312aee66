"""Learning-rate curves and their length."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medssl.core.errors import ConfigError
from medssl.training import Ramp, Schedule
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


def test_a_stage_multiplies_the_rate_from_its_share_on() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=7e-3)
    schedule = Schedule(optimizer=optimizer, total_steps=10, kind="constant", stages=[(0.8, 1 / 7)])
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    assert rates == pytest.approx([7e-3] * 8 + [1e-3] * 2)


def test_a_ramp_is_nothing_before_its_start_then_rises_and_stays() -> None:
    ramp = Ramp(final=0.2, start=100, length=50)
    values = [ramp(iteration) for iteration in range(100, 151)]
    assert ramp(99) == 0.0
    assert values[0] == pytest.approx(0.2 * 0.0067379, rel=1e-4)  # e^-5
    assert values == sorted(values)
    assert values[-1] == ramp(10_000) == 0.2


@pytest.mark.parametrize("wrong", [{"final": -1.0}, {"final": float("nan")}, {"start": -1}, {"length": -1}])
def test_a_ramp_of_no_sense_is_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="ramp: expected"):
        Ramp(**{"final": 0.2, **wrong})


def test_a_ramp_without_length_is_a_step() -> None:
    ramp = Ramp(final=0.2, start=3)
    assert [ramp(iteration) for iteration in (0, 2, 3, 4)] == [0.0, 0.0, 0.2, 0.2]


@pytest.mark.parametrize("done", [0.0, 0.25, 0.5, 1.0])
def test_ramps_of_runs_of_any_length_have_the_same_shape(done: float) -> None:
    short, long = Ramp(final=1.0, length=100), Ramp(final=1.0, length=30_000)
    assert short(int(done * 100)) == pytest.approx(long(int(done * 30_000)))


def test_a_ramp_into_the_past_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least 0 iterations, got -1"):
        Ramp(final=1.0, start=-1)
