"""Detection maps and lesions of small cases on disk, with their manifest."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np

from medssl.data.manifest import Manifest

SHAPE = (16, 16, 6)
AFFINE = np.diag([0.5, 0.5, 3.0, 1.0])
LEFT, RIGHT, FRONT = (slice(2, 5), slice(2, 5)), (slice(10, 14), slice(3, 7)), (slice(5, 9), slice(11, 15))


def volume(*boxes, dtype=np.float32):
    """Return a volume of boxes: (place, value)."""
    voxels = np.zeros(SHAPE, dtype)
    for place, value in boxes:
        voxels[(*place, slice(1, 4))] = value
    return voxels


class Detections:
    """References and detection maps on disk, and the manifest's cases as they are added."""

    def __init__(self, folder: Path) -> None:
        self.root, self.predictions = folder, folder / "out"
        self.cases: list[dict] = []
        self.predictions.mkdir(parents=True, exist_ok=True)

    def add(self, case_id, lesions, candidates, *, affine=AFFINE, **more):
        """Add a case; None for `lesions` names no label, None for `candidates` writes no map."""
        case = {"id": case_id, "image": f"{case_id}.nii.gz", **more}
        if lesions is not None:
            nib.save(nib.Nifti1Image(lesions.astype(np.uint8), AFFINE), self.root / f"{case_id}_label.nii.gz")
            case["label"] = f"{case_id}_label.nii.gz"
        if candidates is not None:
            path = self.predictions / f"{case_id}_detection_map.nii.gz"
            nib.save(nib.Nifti1Image(candidates.astype(np.float32), affine), path)
        self.cases.append(case)

    @property
    def manifest(self) -> Manifest:
        """The manifest with all cases as test cases."""
        labels = {"0": "background", "1": "significant cancer"}
        content = {"name": "prostates", "modality": "bpMRI", "labels": labels, "test": self.cases}
        return Manifest.model_validate(content)


def usual(folder: Path, patients: int = 6) -> Detections:
    """Half of the cases positive; in the last one the lesion is missed and something else is marked."""
    study = Detections(folder)
    for number in range(patients):
        positive = number % 2 == 0
        lesions = volume((LEFT, 1)) if positive else volume()
        found = volume((LEFT, 0.9 - number / 20)) if positive else volume((RIGHT, 0.3 + number / 50))
        if number == patients - 2:
            found = volume((FRONT, 0.6))
        study.add(f"c{number}", lesions, found, patient=f"Doe{number}", fold=number % 3)
    return study
