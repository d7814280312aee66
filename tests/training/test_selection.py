"""Which weights become model.pt."""

from __future__ import annotations

from pathlib import Path

import torch
from ignite.engine import Engine, Events
from torch import nn

from medssl.training import BestRecord, BestWeights, LastWeights
from medssl.training.selection import save_weights


def _validator(*metrics: float) -> Engine:
    values = iter(metrics)
    engine = Engine(lambda engine, batch: None)
    engine.state.key_metric_name = "dice"

    @engine.on(Events.EPOCH_STARTED)
    def _next(engine: Engine) -> None:
        engine.state.metrics["dice"] = next(values)

    return engine


def _weight(path: Path) -> float:
    return torch.load(path, weights_only=True)["weight"].item()


def _train(tmp_path: Path, metrics: tuple[float, ...], *, enabled: bool = True) -> BestRecord:
    network, record, validator = nn.Linear(1, 1), BestRecord(), _validator(*metrics)
    best = BestWeights(path=str(tmp_path / "model.pt"), network=network, record=record, enabled=enabled)
    best.attach(validator)

    @validator.on(Events.EPOCH_STARTED)
    def _number(engine: Engine) -> None:
        network.weight.data.fill_(engine.state.epoch)

    validator.run([0], max_epochs=len(metrics))
    return record


def test_the_best_weights_are_kept_and_a_tie_keeps_the_earlier(tmp_path: Path) -> None:
    record = _train(tmp_path, (0.2, 0.9, 0.9, 0.5))
    assert _weight(tmp_path / "model.pt") == 2.0
    assert (record.metric, record.epoch) == (0.9, 2)


def test_an_undefined_metric_is_never_the_best(tmp_path: Path) -> None:
    assert not _train(tmp_path, (float("nan"),)).saved
    assert not (tmp_path / "model.pt").exists()


def test_without_selection_the_record_is_kept_but_no_file(tmp_path: Path) -> None:
    assert _train(tmp_path, (0.4,), enabled=False).metric == 0.4
    assert not (tmp_path / "model.pt").exists()


def _finish(tmp_path: Path, record: BestRecord, *, enabled: bool) -> bool:
    trainer = Engine(lambda engine, batch: None)
    LastWeights(path=str(tmp_path / "m.pt"), network=nn.Linear(1, 1), record=record, enabled=enabled).attach(trainer)
    trainer.run([0])
    return (tmp_path / "m.pt").exists()


def test_validations_without_a_number_are_not_called_no_validation(tmp_path: Path, caplog) -> None:
    record, resumed = _train(tmp_path, (float("nan"), float("nan"))), BestRecord()
    resumed.load_state_dict(record.state_dict())
    assert _finish(tmp_path, resumed, enabled=False)
    assert "none of 2 validations gave a number" in caplog.text
    caplog.clear()
    assert _finish(tmp_path, BestRecord(), enabled=False)
    assert "no validation took place" in caplog.text


def test_the_last_weights_are_saved_only_where_they_are_wanted_or_nothing_was_validated(tmp_path: Path) -> None:
    validated = BestRecord()
    validated.load_state_dict({"metric": 0.5, "epoch": 3})
    assert not _finish(tmp_path, validated, enabled=False)
    assert _finish(tmp_path, BestRecord(), enabled=False)
    (tmp_path / "m.pt").unlink()
    assert _finish(tmp_path, validated, enabled=True)


def test_equal_weights_give_equal_files(tmp_path: Path) -> None:
    network = nn.Linear(2, 3)
    for name in ("a.pt", "b.pt"):
        save_weights(tmp_path / name, network)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "b.pt").read_bytes()
