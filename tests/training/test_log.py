"""The log of a run: lines, shares, validation and their order."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from ignite.engine import Engine, Events
from training.small_run import small_run

from medssl.training import TrainingLog


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_run_leaves_start_training_and_end_lines(tmp_path: Path) -> None:
    run = small_run(tmp_path, epochs=2)
    TrainingLog(path=str(tmp_path / "log.jsonl"), optimization=run.optimization).attach(run.trainer)
    run.trainer.run()
    lines = _lines(tmp_path / "log.jsonl")
    assert [line["kind"] for line in lines] == ["start", "train", "train", "end"]
    assert [line["iteration"] for line in lines] == [0, 4, 8, 8]
    assert all(0 <= line["wait_share"] <= 1 for line in lines if line["kind"] == "train")
    assert lines[-1]["patches"] == 8 * 2
    seconds = [line["seconds"] for line in lines[1:]]
    assert seconds == sorted(seconds)


def test_a_resumed_run_counts_from_where_it_goes_on_to_tell_the_time_left(tmp_path: Path) -> None:
    run = small_run(tmp_path, epochs=4)
    log = TrainingLog(path=str(tmp_path / "log.jsonl"), optimization=run.optimization)
    log.attach(run.trainer)
    seen: list[tuple[int | None, str]] = []

    def resume(engine: Engine) -> None:  # attached after the log, as in a bundle
        engine.state.iteration, engine.state.epoch = 12, 3

    def look(engine: Engine) -> None:
        ten_seconds_each = log._started_at + 10 * (len(seen) + 1)
        seen.append((log._first_iteration, log._time_left(engine, ten_seconds_each)))

    run.trainer.add_event_handler(Events.STARTED, resume)
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED, look)
    run.trainer.run()
    lines = _lines(tmp_path / "log.jsonl")
    assert [line["kind"] for line in lines] == ["start", "train", "end"]
    assert lines[0]["iteration"] == 12
    assert seen == [(12, "0:00:30"), (12, "0:00:20"), (12, "0:00:10"), (12, "0:00:00")]


def test_the_loss_of_a_line_is_the_mean_since_the_last_one(tmp_path: Path) -> None:
    run = small_run(tmp_path, epochs=1)
    losses: list[float] = []
    TrainingLog(path=str(tmp_path / "log.jsonl"), optimization=run.optimization).attach(run.trainer)
    run.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output["loss"])))
    run.trainer.run()
    assert _lines(tmp_path / "log.jsonl")[1]["loss"] == round(sum(losses) / 4, 6)


def test_scalars_of_a_step_are_meaned_beside_the_loss(tmp_path: Path) -> None:
    run = small_run(tmp_path, epochs=1)
    step = run.trainer._process_function

    def with_scalar(engine, batch):
        return {**step(engine, batch), "log": {"agreement": torch.tensor(float(engine.state.iteration))}}

    run.trainer._process_function = with_scalar
    TrainingLog(path=str(tmp_path / "log.jsonl"), optimization=run.optimization).attach(run.trainer)
    run.trainer.run()
    assert _lines(tmp_path / "log.jsonl")[1]["agreement"] == 2.5


def test_a_validation_is_logged_once_with_the_dice_of_each_class(tmp_path: Path) -> None:
    evaluator = Engine(lambda engine, batch: None)
    evaluator.state.key_metric_name = "dice"
    evaluator.state.metrics = {"dice": 0.75}
    evaluator.state.metric_details = {"dice": torch.tensor([[0.5, 0.9], [float("nan"), 0.7]])}
    evaluator.state.epoch = 1
    run = small_run(tmp_path, epochs=2)
    log = TrainingLog(
        path=str(tmp_path / "log.jsonl"), optimization=run.optimization, evaluator=evaluator, class_names=["a", "b"]
    )
    log.attach(run.trainer)
    run.trainer.run()
    found = [line for line in _lines(tmp_path / "log.jsonl") if line["kind"] == "validation"]
    assert found == [{"kind": "validation", "epoch": 1, "mean_dice": 0.75, "dice": {"a": 0.5, "b": 0.8}}]


def test_half_a_line_of_a_killed_run_does_not_spoil_the_next(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text('{"kind": "start"}\n{"kind": "tra')
    run = small_run(tmp_path, epochs=1)
    TrainingLog(path=str(tmp_path / "log.jsonl"), optimization=run.optimization).attach(run.trainer)
    run.trainer.run()
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert lines[1] == '{"kind": "tra'
    assert [json.loads(line)["kind"] for line in lines[2:]] == ["start", "train", "end"]
