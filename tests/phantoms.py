"""A small labelled dataset made by code: bright balls and boxes with known labels. Synthetic."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from medssl.data.manifest import Case, Manifest, save_manifest


def write_phantoms(
    folder: Path,
    *,
    training: int = 4,
    validation: int = 2,
    values: tuple[int, int] = (1, 2),
    shape: tuple[int, int, int] = (24, 26, 22),
    channels: int = 1,
) -> Path:
    """Write NIfTI phantoms with two structures and their manifest; return the manifest's path."""
    rng = np.random.default_rng(7)
    cases = [
        _write_case(folder, f"phantom_{i}", rng, values=values, shape=shape, channels=channels)
        for i in range(training + validation)
    ]
    manifest = Manifest(
        name="phantoms",
        licence="CC0",
        modality="MR",
        labels={"0": "background", str(values[0]): "ball", str(values[1]): "box"},
        training=tuple(cases[:training]),
        validation=tuple(cases[training:]),
    )
    save_manifest(folder / "manifest.json", manifest)
    return folder / "manifest.json"


def _write_case(
    folder: Path,
    case_id: str,
    rng: np.random.Generator,
    *,
    values: tuple[int, int],
    shape: tuple[int, int, int],
    channels: int,
) -> Case:
    label = np.zeros(shape, dtype=np.uint8)
    centre = rng.integers(7, 10, 3)
    grid = np.indices(shape)
    label[((grid - centre[:, None, None, None]) ** 2).sum(0) <= 25] = values[0]
    corner = rng.integers(12, 14, 3)
    label[tuple(slice(int(c), int(c) + 7) for c in corner)] = values[1]
    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    names = []
    for channel in range(channels):
        image = 100 * (label == values[0]) + 200 * (label == values[1]) + rng.normal(0, 10, shape)
        names.append(f"{case_id}_{channel}.nii.gz")
        _save(folder / names[-1], image.astype(np.float32), affine)
    _save(folder / f"{case_id}_label.nii.gz", label, affine)
    return Case(id=case_id, image=tuple(names), label=f"{case_id}_label.nii.gz", patient=f"Doe {case_id}")


def _save(path: Path, voxels: np.ndarray, affine: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)
