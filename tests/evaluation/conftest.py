"""A small dataset of real tissue maps with references, predictions and a manifest."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from medssl.data.manifest import Manifest

AFFINE = np.array([[0.0, -1.5, 0.0, 40.0], [2.0, 0.0, 0.0, -30.0], [0.0, 0.0, 3.0, 5.0], [0.0, 0.0, 0.0, 1.0]])
"""Axes swapped and one reversed; voxels of 2.0 x 1.5 x 3.0 mm along the array axes."""


def write_labels(path: Path, labels, affine=AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(labels, affine), path)
    return path


@pytest.fixture(scope="session")
def tissue() -> np.ndarray:
    """Grey (1) and white matter (2) of the 1 mm template that nilearn ships, cropped to a corner of cortex."""
    folder = Path(find_spec("nilearn").submodule_search_locations[0]) / "datasets" / "data"
    crop = (slice(60, 96), slice(60, 100), slice(40, 70))
    grey, white = (
        np.asarray(nib.load(folder / f"mni_icbm152_{name}_tal_nlin_sym_09a_converted.nii.gz").dataobj)[crop]
        for name in ("gm", "wm")
    )
    labels = np.zeros(grey.shape, np.uint8)
    labels[grey > grey.max() / 2] = 1
    labels[white > white.max() / 2] = 2
    return labels


class Study:
    """References and predictions on disk: `root`, `predictions`, and the manifest's cases as they are added."""

    def __init__(self, folder: Path) -> None:
        self.root, self.predictions = folder / "data", folder / "predictions"
        self.labels = {"0": "background", "1": "grey", "2": "white"}
        self.cases: list[dict[str, str]] = []
        self.predictions.mkdir(parents=True)

    def add(self, case_id: str, reference, prediction=None, *, patient: str | None = None, affine=AFFINE) -> None:
        write_labels(self.root / "labels" / f"{case_id}.nii.gz", reference)
        case = {"id": case_id, "image": f"images/{case_id}.nii.gz", "label": f"labels/{case_id}.nii.gz"}
        self.cases.append(case | ({"patient": patient} if patient else {}))
        if prediction is not None:
            write_labels(self.predictions / f"{case_id}.nii.gz", prediction, affine)

    @property
    def manifest(self) -> Manifest:
        content = {"name": "tissue", "modality": "MR", "labels": self.labels, "test": self.cases}
        return Manifest.model_validate(content)


@pytest.fixture
def study(tmp_path) -> Study:
    """An empty study to which a test adds cases."""
    return Study(tmp_path)


@pytest.fixture
def shifted(tissue) -> Callable[[int], np.ndarray]:
    """The tissue map, shifted along its first axis."""
    return lambda voxels: np.roll(tissue, voxels, axis=0)
