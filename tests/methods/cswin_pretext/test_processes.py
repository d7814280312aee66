"""Several processes see the negatives of all of them and learn what one process with all patches learns."""

from __future__ import annotations

import pytest
from methods.cswin_pretext.process_pretext import gradients, joined_gradients, same_views
from processes import in_processes


def test_two_processes_learn_what_one_with_all_patches_learns() -> None:
    alone = gradients(same_views())
    for joined in in_processes(joined_gradients):
        assert joined["contrast"] == pytest.approx(alone["contrast"], abs=1e-6)
        assert joined["gradients"].keys() == alone["gradients"].keys()
        for name, values in alone["gradients"].items():
            assert joined["gradients"][name] == pytest.approx(values, abs=1e-6), name
    assert max(abs(value) for values in alone["gradients"].values() for value in values) > 0.01
