"""Make a synthetic shift of real scans: other intensities and coarser slices, as another site's scanner would.

    .venv/bin/python tools/studies/synthetic_shift.py --data ../shared/data/hippocampus --out runs/shift

Writes shifted copies of the images (labels stay where they are and as they are) and three manifests:
target.json (the 126 unlabelled training scans, shifted; 30 shifted development cases to score), source_and_target.json
(4 labelled scans as they are, the 126 shifted ones unlabelled) and target_test.json (40 shifted test cases).
tools/studies/synthetic_shift.sh runs the study.
"""

from __future__ import annotations

import argparse
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
from scipy import ndimage

from medssl.core.files import atomic_path, sha256_file
from medssl.data.manifest import Case, Manifest, load_manifest, save_manifest

GAMMA = 0.55
COARSER = 2.5
NOISE = 0.04


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    folder = Path(__file__).parents[2] / "data_manifests"
    few, whole = (load_manifest(folder / f"hippocampus{name}.json") for name in ("_labelled4_draw0", ""))
    options.out.mkdir(parents=True, exist_ok=True)
    for name in ("imagesTr", "labelsTr"):
        if not (options.out / name).exists():
            (options.out / name).symlink_to((options.data / name).resolve())

    def moved(cases: tuple[Case, ...]) -> tuple[Case, ...]:
        return tuple(_shifted(case, options.data, options.out) for case in cases)

    nothing: dict[str, tuple[Case, ...]] = dict.fromkeys(("training", "unlabeled", "validation", "test"), ())
    unlabeled = moved(few.unlabeled)
    parts = {
        "target": nothing | {"unlabeled": unlabeled, "validation": moved(whole.validation)},
        "source_and_target": nothing | {"training": few.training, "unlabeled": unlabeled},
        "target_test": nothing | {"test": moved(whole.test)},
    }
    for name, content in parts.items():
        manifest: Manifest = whole.model_copy(update={"name": f"hippocampus, synthetic shift, {name}", **content})
        save_manifest(options.out / f"{name}.json", manifest)


def _shifted(case: Case, data: Path, out: Path) -> Case:
    name = f"shifted/{case.id}.nii.gz"
    if not (out / name).is_file():
        image = nib.load(data / case.image[0])
        voxels = shift(np.asanyarray(image.dataobj).astype(np.float64), seed=zlib.crc32(case.id.encode()))
        with atomic_path(out / name) as temporary:
            nib.save(nib.Nifti1Image(voxels.astype(np.float32), image.affine), temporary)
    return case.model_copy(update={"image": (name,), "sha256": sha256_file(out / name)})


def shift(voxels: np.ndarray, *, seed: int) -> np.ndarray:
    """Return a scan (X, Y, Z) with another contrast, a bias field, slices `COARSER` times as thick, and noise."""
    rng = np.random.default_rng(seed)
    low, high = np.percentile(voxels, [0.5, 99.5])
    scaled = np.clip((voxels - low) / (high - low), 0.0, 1.0) ** GAMMA
    grid = np.indices(voxels.shape) / np.reshape(voxels.shape, (3, 1, 1, 1)) - 0.5
    field = 1.0 + np.tensordot(rng.uniform(-0.5, 0.5, 3), grid, 1)
    thick = ndimage.zoom(scaled * field, (1.0, 1.0, 1.0 / COARSER), order=1, mode="nearest", grid_mode=True)
    back = np.array(voxels.shape) / np.array(thick.shape)
    smooth = ndimage.zoom(thick, back, order=1, mode="nearest", grid_mode=True)
    return 1000.0 * (smooth + NOISE * rng.standard_normal(voxels.shape))


if __name__ == "__main__":
    main()
