"""Baselines in two processes against one with the same samples: the same noise, dropout and gradient."""

import numpy as np
import pytest
from methods.baselines.process_steps import joined, stepped
from processes import in_processes


@pytest.mark.parametrize("method", ["mean_teacher", "ua_mt", "cps", "self_training"])
def test_two_processes_take_the_step_of_one_with_all_samples(method: str) -> None:
    gradients, consistency = stepped(method)
    assert consistency > 0.0
    for found, _ in in_processes(joined, method):
        for name, values in gradients.items():
            assert np.abs(found[name] - values).max() <= 1e-6 * max(1.0, np.abs(values).max()), name
