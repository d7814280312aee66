from __future__ import annotations

from medssl.core import cores
from medssl.core.cores import usable_cores


def test_only_granted_cores_count(monkeypatch):
    monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _: {0, 5, 7}, raising=False)
    assert usable_cores() == 3


def test_systems_without_affinity_count_all_cores(monkeypatch):
    monkeypatch.delattr(cores.os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(cores.os, "cpu_count", lambda: None)
    assert usable_cores() == 1
