"""Seeds by name, and the global random state as plain values."""

from __future__ import annotations

import io
import random

import numpy as np
import torch

from medssl.core.seeding import capture_random_state, derive_seed, restore_random_state, seed_everything


def test_a_derived_seed_depends_on_every_key_and_their_order() -> None:
    seeds = {derive_seed(0, "a", 1), derive_seed(1, "a", 1), derive_seed(0, "b", 1), derive_seed(0, 1, "a")}
    assert len(seeds) == 4
    assert derive_seed(0, "a", 1) == derive_seed(0, "a", 1)


def _draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(1))


def test_a_captured_state_survives_a_safe_file_and_replays_all_generators() -> None:
    seed_everything(3)
    _draw()
    file = io.BytesIO()
    torch.save(capture_random_state(), file)
    expected = _draw()
    file.seek(0)
    restore_random_state(torch.load(file, weights_only=True))
    assert _draw() == expected


def test_the_same_seed_draws_the_same() -> None:
    seed_everything(5)
    first = _draw()
    seed_everything(5)
    assert _draw() == first
