"""Stop a training from within, as the scheduler of a cluster would."""

from __future__ import annotations

import os
import signal

import pytest


def stop_in_call(monkeypatch: pytest.MonkeyPatch, step: type, number: int) -> list[int]:
    """Let a call of a step send SIGTERM to this process; return a list that the iterations of all calls are added to.

    Args:
        monkeypatch: Undoes it at the end of the test.
        step: Class of the step.
        number: The call, from 1, counted over all runs.
    """
    whole, calls = step.__call__, []

    def stopped(self, engine, batch):
        calls.append(engine.state.iteration)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return whole(self, engine, batch)

    monkeypatch.setattr(step, "__call__", stopped)
    return calls
