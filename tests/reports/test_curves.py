"""Curves and facts of a training log."""

from __future__ import annotations

import math

from medssl.reports.curves import summarise_training
from medssl.reports.sources import Run, read_sources


def _run(*log, torn=0):
    return Run(name="run", log=log, torn_lines=torn)


def test_a_full_log_gives_four_curves_and_its_best_epoch(study):
    summary = summarise_training(read_sources([study["run"]]).runs[0])
    titles = [curve.title for curve in summary.curves]
    assert titles == ["Loss", "Validation Dice", "Step time", "Waiting for data"]
    assert dict(summary.facts)["Best mean validation Dice"] == "0.908 (epoch 20)"
    assert dict(summary.facts)["Steps done"] == "200"
    assert dict(summary.weights)["Loaded"] == "40"


def test_torn_line_and_missing_end_are_said(study):
    notes = " ".join(summarise_training(read_sources([study["run"]]).runs[0]).notes)
    assert "torn" in notes and "no end" in notes


def test_missing_log_and_missing_validation_are_said():
    assert "no training log" in summarise_training(_run()).notes[0]
    assert "no validation" in summarise_training(_run({"kind": "start"}, {"kind": "end"})).notes[0]


def test_a_resumed_run_counts_each_step_once_with_its_latest_value():
    log = [{"kind": "start"}, {"kind": "train", "iteration": 5, "loss": 9.0}, {"kind": "start"}]
    log += [{"kind": "train", "iteration": 5, "loss": 2.0}, {"kind": "train", "iteration": 10, "loss": 1.0}]
    summary = summarise_training(_run(*log))
    assert summary.curves[0].description == "Training loss from 2.000 to 1.000 over 10 steps."
    assert dict(summary.facts)["Times resumed"] == "1"


def test_values_that_are_no_numbers_and_unknown_kinds_are_left_out():
    log = [{"kind": "train", "iteration": 1, "loss": math.nan}, {"kind": "train", "iteration": 2, "loss": None}]
    log += [{"kind": "moon"}, {"kind": "validation", "epoch": 1, "mean_dice": math.nan, "dice": {"a": None}}]
    assert summarise_training(_run(*log)).curves == ()


def test_many_classes_are_drawn_in_part_and_that_is_said():
    dice = {f"class {number}": 0.5 for number in range(20)}
    summary = summarise_training(_run({"kind": "validation", "epoch": 1, "mean_dice": 0.5, "dice": dice}))
    assert "The first 8 of 20 classes" in summary.curves[0].description


def test_the_health_of_a_pretraining_is_drawn_beside_the_value_of_a_collapse():
    log = [{"kind": "start"}]
    health = {"collapse_value": 2.565, "spread": 0.4, "alignment": 0.2, "rankme": 17.0, "probe": 0.8}
    health["uniformity"] = -3.1
    log += [{"kind": "train", "iteration": step, "loss": 2.0, **health} for step in (10, 20)]
    summary = summarise_training(_run(*log, {"kind": "end"}))
    described = {curve.title: curve.description for curve in summary.curves}
    assert list(described) == ["Loss", "Embeddings", "Uniformity", "Effective rank"]
    assert "-3.10 at the end" in described["Uniformity"]
    assert "one point has 2.565" in described["Loss"]
    assert "spread (1 is even) 0.400" in described["Embeddings"]
    assert not summary.notes
