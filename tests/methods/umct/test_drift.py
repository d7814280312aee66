"""The guard compares with the source network on the same crops, and stops what drifts."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from methods.umct.small_umct import SHAPE, small_network

from medssl.core.errors import ConfigError, TrainingError
from medssl.methods.umct import DriftGuard

_IMAGE = torch.randn(2, 1, *SHAPE, generator=torch.Generator().manual_seed(3))


def _guard(**options) -> DriftGuard:
    return DriftGuard(source=small_network(), **{"interval": 1, "window": 2, **options})


def _probabilities(guard: DriftGuard, *, foreground: float) -> list[torch.Tensor]:
    """Return what the source says, with its foreground multiplied."""
    with torch.no_grad():
        source = guard.source(_IMAGE).softmax(1)[:, 1:] * foreground
    return [torch.cat([1.0 - source, source], 1)] * 3


def _look(guard: DriftGuard, foreground: float, *, times: int = 2) -> None:
    for iteration in range(times):
        guard.look(_probabilities(guard, foreground=foreground), _IMAGE, iteration=iteration, autocast=nullcontext)


def test_views_that_say_what_the_source_said_go_on() -> None:
    _look(_guard(), 1.0)


@pytest.mark.parametrize("foreground", [0.1, 1.3])
def test_class_that_leaves_its_range_stops_the_run(foreground: float) -> None:
    with pytest.raises(TrainingError, match=r"class 1 fills .* times what the source network gave it"):
        _look(_guard(highest=1.2), foreground)


def _with_class(share: float) -> torch.Tensor:
    """Return probabilities of two classes, the second of which fills a share of the crop."""
    return torch.tensor([1.0 - share, share]).reshape(1, 2, 1, 1, 1).expand(2, 2, *SHAPE)


@pytest.mark.parametrize("grown", [1e-3, 0.4])
def test_class_that_the_source_hardly_saw_may_not_grow_either(monkeypatch: pytest.MonkeyPatch, grown: float) -> None:
    guard = _guard()
    monkeypatch.setattr(guard.source, "forward", lambda _: _with_class(5e-5).log())
    with pytest.raises(TrainingError, match="class 1 fills"):
        for iteration in range(2):
            guard.look([_with_class(grown)] * 3, _IMAGE, iteration=iteration, autocast=nullcontext)


def test_class_that_the_source_hardly_saw_may_vanish(monkeypatch: pytest.MonkeyPatch) -> None:
    guard = _guard()
    monkeypatch.setattr(guard.source, "forward", lambda _: _with_class(5e-5).log())
    for iteration in range(2):
        guard.look([_with_class(1e-6)] * 3, _IMAGE, iteration=iteration, autocast=nullcontext)


def test_nothing_is_stopped_before_the_window_is_full() -> None:
    _look(_guard(window=3), 0.1, times=2)


def test_only_every_interval_is_looked_at() -> None:
    guard = _guard(interval=4)
    _look(guard, 0.1, times=4)
    assert len(guard._looks) == 1


def test_a_resumed_run_remembers_what_was_looked_at() -> None:
    before, after = _guard(), _guard()
    _look(before, 0.1, times=1)
    after.load_state_dict(before.state_dict())
    with pytest.raises(TrainingError, match=r"class 1 fills 0\.1 times"):
        _look(after, 0.1, times=1)


def test_processes_judge_the_crops_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_a_process_that_sees_no_change(value: torch.Tensor) -> torch.Tensor:
        now, before = value
        return torch.stack([(now + torch.cat([before[:-1], now[-1:]])) / 2, before])

    monkeypatch.setattr("medssl.methods.umct.drift.mean_over_processes", with_a_process_that_sees_no_change)
    _look(_guard(lowest=0.5), 0.1)  # 0.1 here and 1 there: 0.55 of all crops
    with pytest.raises(TrainingError, match=r"class 1 fills 0\.55 times"):
        _look(_guard(lowest=0.6), 0.1)


def test_views_that_agree_on_half_of_the_foreground_stop_the_run() -> None:
    with pytest.raises(TrainingError, match="the views agree on"):
        _look(_guard(), 0.4)


def test_the_source_is_frozen_and_its_mode_is_kept() -> None:
    guard = _guard()
    _look(guard, 1.0)
    assert not any(parameter.requires_grad for parameter in guard.source.parameters())
    assert not guard.source.training


@pytest.mark.parametrize("wrong", [{"lowest": 1.2}, {"highest": 0.5}, {"interval": 0}, {"window": 0}])
def test_settings_out_of_range_are_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="expected 0 < lowest < 1 < highest"):
        _guard(**wrong)
