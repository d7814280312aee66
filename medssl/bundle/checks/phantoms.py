"""Phantoms in the form a bundle declares: its channels, its classes, more than one tile. Synthetic."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medssl.bundle.checks.subject import Subject
from medssl.data.manifest import Case, Manifest, save_manifest

SEED = 0
_TRAINING, _VALIDATION, _UNLABELED = 3, 2, 2
# About 20 degrees around an oblique axis, 1.2 mm voxels and an origin away from 0: nothing about it is a default
_OBLIQUE = np.array(
    [[1.15, -0.31, 0.14, -41.0], [0.27, 1.13, 0.30, 17.5], [-0.21, -0.26, 1.16, 63.25], [0.0, 0.0, 0.0, 1.0]]
)


def phantom_shape(subject: Subject) -> tuple[int, ...]:
    """Return a shape a little larger than the patch, so that more than one tile is needed."""
    return tuple(size + 6 for size in subject.patch)


def write_phantom_image(path: Path, *, channels: int, shape: tuple[int, ...]) -> list[Any]:
    """Write an oblique image of noise; return the datalist of one case: a path, or a list of one for each channel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    paths = [path.with_name(f"{number}_{path.name}") if channels > 1 else path for number in range(channels)]
    for each in paths:
        voxels = rng.normal(100, 20, shape).astype(np.float32)
        nib.save(nib.Nifti1Image(voxels, _OBLIQUE), each)
    return [str(paths[0])] if channels == 1 else [[str(each) for each in paths]]


def image_path(item: Any) -> str:
    """Return the first image file of a datalist item."""
    return str(item[0] if isinstance(item, list) else item)


def write_phantom_cases(
    folder: Path, subject: Subject, *, unlabeled: bool = False, broken: bool = False, leave_out_last: bool = False
) -> Path:
    """Write labelled phantoms with every class of the bundle and their manifest; return the manifest's path.

    Args:
        folder: Where the files go.
        subject: The bundle; tells channels, classes and size.
        unlabeled: Also list cases without label.
        broken: Training images are NaN throughout.
        leave_out_last: The first validation case lacks the last class, in the reference.
    """
    rng = np.random.default_rng(SEED)
    names = [f"phantom_{number}" for number in range(_TRAINING + _VALIDATION + _UNLABELED)]
    writer = _PhantomWriter(folder, subject, rng)
    cases = []
    for number, name in enumerate(names):
        missing = leave_out_last and number == _TRAINING
        cases.append(writer.write(name, broken=broken and number < _TRAINING, leave_out_last=missing))
    last = _TRAINING + _VALIDATION
    bare = tuple(case.model_copy(update={"label": None}) for case in cases[last:])
    manifest = Manifest(
        name="phantoms",
        modality="synthetic",
        labels=subject.classes,
        training=tuple(cases[:_TRAINING]),
        validation=tuple(cases[_TRAINING:last]),
        unlabeled=bare if unlabeled else (),
    )
    save_manifest(folder / "manifest.json", manifest)
    return folder / "manifest.json"


@dataclass
class _PhantomWriter:
    folder: Path
    subject: Subject
    rng: np.random.Generator

    def write(self, name: str, *, broken: bool, leave_out_last: bool) -> Case:
        self.folder.mkdir(parents=True, exist_ok=True)
        shape, count = phantom_shape(self.subject), len(self.subject.classes)
        label = np.zeros(shape, dtype=np.uint8)
        # one slab for each class along the first axis, so that every patch meets some of them
        for value, slab in enumerate(np.array_split(np.arange(2, shape[0] - 2), max(1, count - 1)), start=1):
            if value < count and not (leave_out_last and value == count - 1):
                label[slab[0] : slab[-1] + 1, 3:-3] = value
        images = []
        for channel in range(self.subject.channels):
            image = 50.0 * label + self.rng.normal(0, 10, shape)
            image = np.full(shape, np.nan) if broken else image
            images.append(self._save(f"{name}_{channel}.nii.gz", image.astype(np.float32)))
        return Case(id=name, image=tuple(images), label=self._save(f"{name}_label.nii.gz", label))

    def _save(self, name: str, voxels: Any) -> str:
        nib.save(nib.Nifti1Image(voxels, np.eye(4)), self.folder / name)
        return name
