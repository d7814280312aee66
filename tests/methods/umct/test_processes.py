"""Co-training in two processes against one with the same samples."""

import numpy as np
import pytest
from methods.umct.process_steps import joined, stepped
from processes import in_processes


def test_two_processes_take_the_step_of_one_with_all_samples() -> None:
    gradients, weights, loss = stepped()
    assert max(np.abs(values).max() for values in gradients.values()) > 0.05  # a factor of 1.0001 is seen
    for found, others, seen in in_processes(joined):
        assert seen == pytest.approx(loss, rel=1e-6)
        for name, values in gradients.items():
            assert np.abs(found[name] - values).max() <= 1e-6 * max(1.0, np.abs(values).max()), name
        for name, values in weights.items():
            assert np.abs(others[name] - values).max() <= 1e-6 * max(1.0, np.abs(values).max())
