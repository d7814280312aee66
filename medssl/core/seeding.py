"""Random numbers: explicit generators keyed by names, and the global state as plain values."""

from __future__ import annotations

import hashlib
import random
from typing import Any

import numpy as np
import torch

RandomState = dict[str, Any]


def derive_seed(*keys: int | str) -> int:
    """Return a 32-bit seed that depends on every key and on nothing else.

    Used to key a draw by what it is for, such as (run seed, stream name, sample position), so that it does not
    depend on the number of workers or on what was drawn before.
    """
    digest = hashlib.blake2b("/".join(str(key) for key in keys).encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little")


def seed_everything(seed: int) -> None:
    """Seed the global generators of Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def capture_random_state() -> RandomState:
    """Return the state of all global generators as tensors and plain values, loadable with weights_only."""
    python_version, python_words, python_gauss = random.getstate()
    name, words, position, has_gauss, gauss = np.random.get_state(legacy=True)
    key_words = torch.from_numpy(np.asarray(words).astype(np.int64))
    return {
        "python": [python_version, list(python_words), python_gauss],
        "numpy": [
            str(name),
            key_words,
            int(position),
            int(has_gauss),
            float(gauss),
        ],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: RandomState) -> None:
    """Put the global generators back to a state made by `capture_random_state`."""
    python_version, python_words, python_gauss = state["python"]
    random.setstate((python_version, tuple(python_words), python_gauss))
    name, words, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, words.numpy().astype(np.uint32), position, has_gauss, gauss))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
