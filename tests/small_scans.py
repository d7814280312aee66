"""Small synthetic CT scans for the tests of reduction: smooth noise that drifts from slice to slice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from faults.small_dataset import save
from scipy.ndimage import gaussian_filter

from medssl.data.manifest import Manifest


def scan(seed: int, *, depth: int = 12, side: int = 24) -> np.ndarray:
    """HU of (side, side, depth): neighbouring slices are near duplicates, far ones are not."""
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=(side, side, depth)), (2, 2, 1.5))
    return (noise / noise.std() * 300 - 200).clip(-1000, 400).astype(np.int16)


def write(root: Path, name: str, voxels: np.ndarray, **fields: Any) -> dict[str, Any]:
    save(root / f"{name}.nii.gz", voxels, np.diag([1.0, 1.0, 5.0, 1.0]))
    return {"id": name, "image": f"{name}.nii.gz", **fields}


def ct(modality: str = "CT", **parts: list[dict[str, Any]]) -> Manifest:
    return Manifest.model_validate({"name": "scans", "modality": modality, "labels": {"0": "background"}, **parts})
