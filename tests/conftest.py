"""Shared fixtures: real volumes that packages ship, and the larger sets when they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

_HERE = Path(__file__).resolve().parent


def _shared_data() -> Path | None:
    for candidate in (os.environ.get("MEDSSL_DATA"), _HERE.parents[1] / "shared" / "data"):
        if candidate and (Path(candidate) / "hippocampus").is_dir():
            return Path(candidate)
    return None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the larger real data sets; tests that need it are skipped without it."""
    folder = _shared_data()
    if folder is None:
        pytest.skip("needs the real data sets of MEDSSL_DATA or ../shared/data")
    return folder


@pytest.fixture(scope="session")
def bundles() -> Path:
    """Folder with the bundles of the repository."""
    return _HERE.parent / "bundles"


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> None:
    import torch

    # One thread makes convolutions repeatable bit for bit and keeps two cores usable.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _same_random_inputs() -> None:
    import torch

    # A bound on what is random must hold again tomorrow, whichever tests ran before
    torch.manual_seed(0)
