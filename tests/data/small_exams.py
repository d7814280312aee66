"""Small prostate exams on disk: three sequences, each on its own grid, with a lesion in known place."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813  (the name that its own documentation uses)

OBLIQUE = nib.eulerangles.euler2mat(0, 0, 0.2)  # turned about the left-right axis, as prostates are imaged
CENTRE_MM = np.array([5.0, -20.0, 30.0])
LESION_MM = np.array([5.0, 5.0, 0.0])  # from the centre


def grid(shape, spacing, *, shift=(0.0, 0.0, 0.0)):
    """Return an oblique RAS affine whose grid lies round the common centre."""
    linear = OBLIQUE @ np.diag(spacing)
    origin = CENTRE_MM + np.asarray(shift) - linear @ ((np.array(shape) - 1) / 2)
    return nib.affines.from_matvec(linear, origin)


def positions(shape, affine):
    """Return the place of each voxel from the common centre, in mm along the exam's own axes."""
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    return (index @ affine[:3, :3].T + affine[:3, 3] - CENTRE_MM) @ OBLIQUE


def save_itk(path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    """Write an .mha file: lengths and directions in LPS, and a patient's name in its header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    spacing = np.sqrt((lps[:3, :3] ** 2).sum(0))
    image = sitk.GetImageFromArray(voxels.transpose(2, 1, 0))
    image.SetSpacing(spacing.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetMetaData("PatientName", "DOE^JANE")
    sitk.WriteImage(image, str(path))
    return path


def save(path: Path, voxels: np.ndarray, affine: np.ndarray) -> Path:
    """Write a NIfTI file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, affine), path)
    return path


def t2w_grid(spacing=(0.5, 0.5, 3.0)):
    shape = (40, 40, 5)
    return shape, grid(shape, spacing)


def write_exam(
    folder: Path,
    *,
    names="{}",
    spacing=(0.5, 0.5, 3.0),
    adc_factor=1.0,
    shift=(0.0, 0.0, 0.0),
    grade=3,
    label=True,
    seed=0,
) -> Path:
    """Write t2w.mha, adc.mha, hbv.nii.gz and lesion.nii.gz; ADC is dark and the high-b image bright in the lesion."""
    rng = np.random.default_rng(seed)
    shape, affine = t2w_grid(spacing)
    save_itk(folder / f"{names.format('t2w')}.mha", rng.integers(50, 400, shape).astype(np.int16), affine)
    shape_dwi = (14, 12, 5)
    affine_dwi = grid(shape_dwi, (2.0, 2.0, 3.0), shift=shift)
    inside = lesion(positions(shape_dwi, affine_dwi))
    adc = np.where(inside, 600, rng.integers(1000, 1600, shape_dwi)) * adc_factor
    save_itk(folder / f"{names.format('adc')}.mha", adc.astype(np.float32), affine_dwi)
    hbv = np.where(inside, 60, rng.integers(10, 20, shape_dwi)).astype(np.int16)
    save(folder / f"{names.format('hbv')}.nii.gz", hbv, affine_dwi)
    if label:
        voxels = lesion(positions(shape, affine)).astype(np.uint8) * grade
        save(folder / f"{names.format('lesion')}.nii.gz", voxels, affine)
    return folder


def lesion(place):
    """Tell which places lie within 4 mm of the lesion's centre."""
    return np.linalg.norm(place - LESION_MM, axis=-1) < 4.0
