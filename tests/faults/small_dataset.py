"""Small data sets on disk for the tests of manifest tools."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medssl.data.manifest import Manifest

SHAPE = (8, 7, 6)


def save(path: Path, voxels: np.ndarray, affine: np.ndarray | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine), path)
    return path


def image(seed: int, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1000, shape).astype(np.int16)


def label(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    voxels = np.zeros(shape, np.uint8)
    voxels[2:5, 2:5, 2:5] = 1
    voxels[5, 2:5, 2:5] = 2
    return voxels


def write_case(root: Path, name: str, *, seed: int, labelled: bool = True, **fields: Any) -> dict[str, Any]:
    """Write one sound case and return its entry."""
    save(root / f"{name}.nii.gz", image(seed))
    entry = {"id": name, "image": f"{name}.nii.gz", **fields}
    if labelled:
        save(root / f"{name}_label.nii.gz", label())
        entry["label"] = f"{name}_label.nii.gz"
    return entry


def manifest(**parts: list[dict[str, Any]]) -> Manifest:
    labels = {"0": "background", "1": "anterior", "2": "posterior"}
    return Manifest.model_validate({"name": "small", "modality": "MR", "labels": labels, **parts})
