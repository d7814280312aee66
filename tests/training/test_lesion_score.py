"""The validator's score of lesion detection, over cases and processes."""

from __future__ import annotations

import math

import pytest
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events
from monai.handlers import from_engine

from medssl.training import LesionScore, lesion_score


def _case(lesion: bool, confidence: float, *, hit: bool = True) -> dict[str, torch.Tensor]:
    probability, label = torch.zeros(2, 8, 8, 4), torch.zeros(1, 8, 8, 4)
    place = (slice(0, 3),) if hit else (slice(5, 8),)
    probability[(1, *place)] = confidence
    probability[0] = 1 - probability[1]
    if lesion:
        label[0, 0:3] = 1
    return {"pred": probability, "label": label}


def _run(batches, **options) -> float:
    engine = Engine(lambda _, batch: batch)
    LesionScore(output_transform=from_engine(["pred", "label"]), **options).attach(engine, "score")
    engine.run(batches, max_epochs=1)
    return engine.state.metrics["score"]


def test_the_score_is_the_mean_of_auroc_and_average_precision() -> None:
    cases = [_case(True, 0.9), _case(False, 0.5), _case(True, 0.4), _case(False, 0.2)]
    # Cases: 3 of 4 pairs in order. Lesions: the second is found behind one false candidate
    assert _run([cases[:2], cases[2:]]) == pytest.approx((3 / 4 + (1 + 2 / 3) / 2) / 2)


def test_one_kind_of_case_gives_what_is_defined() -> None:
    assert _run([[_case(True, 0.9), _case(True, 0.5, hit=False)]]) == pytest.approx(0.5)
    assert math.isnan(_run([[_case(False, 0.9)]]))


def test_each_validation_begins_anew() -> None:
    engine, values = Engine(lambda _, batch: batch), []
    LesionScore(output_transform=from_engine(["pred", "label"])).attach(engine, "score")
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda e: values.append(e.state.metrics["score"]))
    for confidence in (0.2, 0.9):
        engine.run([[_case(True, confidence), _case(False, 0.5)]], max_epochs=1)
    assert values == [pytest.approx((0 + 0.5) / 2), pytest.approx(1.0)]


def test_probabilities_just_above_one_are_no_reason_to_stop() -> None:
    assert _run([[_case(True, 1.0 + 1e-7), _case(False, 0.5)]]) == 1.0


def test_cases_of_other_processes_count_and_repeated_ones_do_not(monkeypatch) -> None:
    def gather(shares, own) -> None:
        shares[0], shares[1], shares[2] = own, own[:1], own[:1]  # the idle processes repeat

    monkeypatch.setattr(lesion_score, "process_count", lambda: 3)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    cases = [_case(True, 0.4), _case(False, 0.5), _case(False, 0.3)]
    assert _run([cases], data=cases) == pytest.approx((0.5 + 0.5) / 2)
