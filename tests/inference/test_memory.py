"""The memory plan: refused before it begins, with numbers."""

import numpy as np
import pytest

from medssl.core.errors import ResourceError
from medssl.inference import memory
from medssl.inference.memory import free_memory, peak_memory, plan_case, require_memory


def _plan(**changes):
    values = {
        "shape": (512, 512, 824),
        "stored_bytes": 2 * 512 * 512 * 824,
        "working_shape": (256, 256, 412),
        "channels": 1,
        "classes": 14,
        "keep_probabilities": False,
    }
    return plan_case(**(values | changes))


def test_label_maps_do_not_cost_all_classes_on_the_native_grid():
    labels, everything = _plan(), _plan(keep_probabilities=True)
    native_scores = 4 * 14 * 512 * 512 * 824
    assert labels.peak < 5 * 2**30 < native_scores
    assert everything.peak > native_scores


def test_a_case_that_cannot_fit_is_refused_with_numbers(monkeypatch):
    monkeypatch.setattr(memory, "free_memory", lambda: 2**30)
    with pytest.raises(ResourceError, match=r"1\.0 GiB of RAM.*need of .* GiB"):
        require_memory(_plan())
    require_memory(_plan(shape=(32, 32, 32), stored_bytes=32**3, working_shape=(32, 32, 32)))


def test_the_limit_of_a_container_counts(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("400\n")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    assert free_memory() == 600
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() > 2**20


def test_peak_memory_is_in_bytes():
    assert 2**24 < peak_memory() < 2**40
    assert np.isfinite(peak_memory())
