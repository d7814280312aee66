"""A shortcut of the rotation task is told once, and only early."""

from __future__ import annotations

import logging

import pytest
from ignite.engine import Engine

from medssl.methods.cswin_pretext import RotationShortcut


def _run(accuracies: list[float], **options) -> RotationShortcut:
    engine = Engine(lambda _, accuracy: {"log": {"rotation_accuracy": accuracy}})
    monitor = RotationShortcut(**options)
    monitor.attach(engine)
    engine.run(accuracies, max_epochs=1)
    return monitor


def test_turns_told_right_early_are_a_shortcut_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="medssl.training"):
        assert _run([1.0] * 30, window=10).warned
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    assert "iteration 10: 100% of the turns" in caplog.text


def test_later_or_with_mistakes_they_are_none() -> None:
    assert not _run([0.5] * 20 + [1.0] * 30, window=10, until=20).warned
    assert not _run([1.0, 0.5] * 30, window=10).warned
    assert not _run([1.0] * 9, window=10).warned
