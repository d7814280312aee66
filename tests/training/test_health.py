"""Monitors of pre-training: their values against plain loops, and when they warn."""

from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine, Events
from torch.nn.functional import normalize

from medssl.training.health import Embedded, PretrainingHealth, alignment, embedding_spread, rank_me, uniformity


def _embeddings(count: int = 12, width: int = 5) -> torch.Tensor:
    return normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(1)), dim=1)


def test_spread_is_one_on_an_even_sphere_and_zero_in_a_point() -> None:
    assert embedding_spread(_embeddings(4000, 16)) == pytest.approx(1.0, abs=0.02)
    assert embedding_spread(_embeddings(1).expand(9, -1)) == pytest.approx(0.0, abs=1e-6)


def test_alignment_equals_a_loop_over_pairs_of_one_source() -> None:
    z, sources = _embeddings(6), torch.tensor([0, 0, 1, 1, 1, 2])
    pairs = [(0, 1), (2, 3), (2, 4), (3, 4)]
    expected = sum(float((z[a] - z[b]).square().sum()) for a, b in pairs) / len(pairs)
    assert alignment(z, sources) == pytest.approx(expected, rel=1e-5)
    assert alignment(z[:2], torch.tensor([0, 1])).isnan()


def test_uniformity_equals_a_loop_over_all_pairs() -> None:
    z = _embeddings(5)
    pairs = [(a, b) for a in range(5) for b in range(a + 1, 5)]
    expected = math.log(sum(math.exp(-2 * float((z[a] - z[b]).square().sum())) for a, b in pairs) / len(pairs))
    assert uniformity(z) == pytest.approx(expected, rel=1e-5)


def test_rankme_counts_equal_directions_and_sees_a_collapse() -> None:
    assert rank_me(torch.eye(6).repeat(3, 1)) == pytest.approx(6.0, abs=1e-3)
    assert rank_me(torch.ones(20, 6)) == pytest.approx(1.0, abs=1e-3)
    assert math.isfinite(rank_me(torch.zeros(4, 3)))


def test_rankme_equals_the_published_formula() -> None:
    z = _embeddings(30, 4).double()
    values = torch.linalg.eigvalsh(z.T @ z).sqrt()
    shares = values / values.sum() + 1e-7
    assert rank_me(z) == pytest.approx(float((-(shares * shares.log()).sum()).exp()), rel=1e-9)


def _run(health: PretrainingHealth, embeddings: torch.Tensor, loss: float, iterations: int, **kind: bool) -> list[dict]:
    logs = []

    def step(engine, batch):
        embedded = Embedded(embeddings, torch.arange(len(embeddings)) // 2, math.log(5), **kind)
        return {"loss": torch.tensor(loss), "embedded": embedded, "log": {}}

    engine = Engine(step)
    health.attach(engine)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: logs.append(dict(e.state.output["log"])))
    engine.run([0] * iterations)
    return logs


def test_measurements_reach_the_log_at_their_interval() -> None:
    logs = _run(PretrainingHealth(every=2, kept=24), _embeddings(), 0.5, 4)
    assert set(logs[0]) == {"collapse_value", "loss_to_collapse"}
    assert {"spread", "uniformity", "alignment", "rankme"} <= set(logs[1])
    assert float(logs[3]["loss_to_collapse"]) == pytest.approx(0.5 / math.log(5))


def test_rankme_waits_for_more_embeddings_than_dimensions() -> None:
    logs = _run(PretrainingHealth(every=1, kept=30), _embeddings(4, 7), 0.5, 2)
    assert "rankme" not in logs[0]
    assert "rankme" in logs[1]


def test_a_point_is_called_a_collapse_only_after_the_warmup(caplog) -> None:
    health = PretrainingHealth(every=1, warmup=4, patience=50)
    _run(health, _embeddings(1).expand(8, -1), 0.5, 3)
    assert health.warned == set()
    _run(health, _embeddings(1).expand(8, -1), 0.5, 6)
    assert health.warned == {"spread", "rank"}
    assert caplog.text.count("nearly one point") == 2


def test_a_loss_that_stays_at_the_collapse_value_is_warned_of() -> None:
    health = PretrainingHealth(every=1, warmup=2, patience=5)
    _run(health, _embeddings(), math.log(5) * 0.995, 5)
    assert health.warned == set()
    _run(health, _embeddings(), math.log(5) * 0.995, 8)
    assert health.warned == {"loss"}


def test_a_task_that_is_solved_is_said_once(caplog) -> None:
    health = PretrainingHealth(every=1, warmup=2, patience=5)
    _run(health, _embeddings(), math.log(5) * 0.005, 8)
    assert health.warned == {"solved"}
    assert caplog.text.count("the task is solved") == 1


def test_a_loss_that_may_fall_below_zero_is_never_called_solved() -> None:
    health = PretrainingHealth(every=1, warmup=2, patience=5)
    _run(health, _embeddings(), -0.7, 8, ends_at_zero=False)
    assert health.warned == set()
