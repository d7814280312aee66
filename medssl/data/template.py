"""A real volume without a download: blocks cut from the 1 mm T1 template in nilearn's package, and a plain yardstick.

The template is the ICBM 152 average (symmetric, 2009a) with maps of grey and white matter. It is mirror-symmetric,
so blocks come from one hemisphere only: a block and its mirror image would sit on both sides of a split. The back of
the hemisphere is learned from, the front is tested on, and 8 mm between them belong to neither.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from medssl.core.errors import DependencyError
from medssl.core.files import atomic_path
from medssl.data.manifest import Case, Manifest, save_manifest

LABELS = {"0": "other", "1": "grey matter", "2": "white matter"}
BLOCK_MM = (36, 44, 48)
"""Shape of a block, x by y by z. Two blocks side by side hold a hemisphere, which leaves enough cases in each part."""
LABELLED = 6
"""Learning blocks that keep their label map: those with the most tissue."""

_X_STARTS_MM = (1, 37)
_Z_STARTS_MM = (-64, -16, 32)
_LEARN_Y_STARTS_MM = (-104, -60)  # up to -16 mm
_TEST_Y_STARTS_MM = (-8, 36)  # 8 mm further to the front
_LEAST_TISSUE = 0.25
_FILE = "mni_icbm152_{map}_tal_nlin_sym_09a_converted.nii.gz"
_LICENCE = "ICBM 152 template, (C) 1993-2009 Louis Collins, McConnell Brain Imaging Centre, McGill University"

Labels = NDArray[np.uint8]
Volume = NDArray[np.uint8]


@dataclass(frozen=True)
class Template:
    """The template on its own grid.

    Attributes:
        image: T1-weighted intensities (X, Y, Z).
        labels: 0 other, 1 grey matter, 2 white matter (X, Y, Z).
        affine: Voxel indices to world coordinates, 4 x 4, in mm.
    """

    image: Volume
    labels: Labels
    affine: NDArray[np.float64]


@dataclass(frozen=True)
class Thresholds:
    """Two intensities: other below `grey`, grey matter from there on, white matter from `white` on."""

    grey: int
    white: int


def load_template() -> Template:
    """Read the template and its tissue maps from nilearn's package, without importing nilearn.

    Raises:
        DependencyError: If nilearn, or its template, is not installed.
    """
    folder = _template_folder()
    image, affine = _read(folder / _FILE.format(map="t1"))
    grey, _ = _read(folder / _FILE.format(map="gm"))
    white, _ = _read(folder / _FILE.format(map="wm"))
    return Template(image, tissue_labels(grey, white), affine)


def tissue_labels(grey: Volume, white: Volume) -> Labels:
    """Give each voxel its most probable tissue.

    The maps hold probabilities times 255; what they leave is "other". A tissue above one half therefore always wins;
    where none reaches one half, the largest does, and "other" wins ties.
    """
    other = 255 - grey.astype(np.int16) - white.astype(np.int16)
    return np.argmax(np.stack([other, grey.astype(np.int16), white.astype(np.int16)]), axis=0).astype(np.uint8)


def write_blocks(folder: Path) -> Manifest:
    """Write the blocks as NIfTI files and manifest.json, and the whole template as whole.nii.gz with whole.json.

    Blocks with less than a quarter of tissue are left out. The result does not depend on anything random.

    Args:
        folder: Data root; made if needed.

    Returns:
        The manifest: labelled training blocks, unlabelled ones, test blocks. No case names a patient.

    Raises:
        DependencyError: If nilearn, or its template, is not installed.
    """
    template = load_template()
    learn = [_Block(template, start) for start in _starts(_LEARN_Y_STARTS_MM)]
    test = [_Block(template, start) for start in _starts(_TEST_Y_STARTS_MM)]
    learn, test = ([block for block in part if block.tissue >= _LEAST_TISSUE] for part in (learn, test))
    by_tissue = sorted(learn, key=lambda block: -block.tissue)
    labelled = [block for block in learn if block in by_tissue[:LABELLED]]
    unlabelled = [block for block in learn if block not in labelled]
    manifest = Manifest(
        name="mni-template-blocks",
        description="Blocks of one hemisphere of the ICBM 152 template: the back to learn from, the front to test on.",
        licence=_LICENCE,
        modality="MR",
        labels=LABELS,
        training=tuple(block.write(folder, f"back-{number:02d}") for number, block in enumerate(labelled, 1)),
        unlabeled=tuple(
            block.write(folder, f"unlabelled-{number:02d}", label=False) for number, block in enumerate(unlabelled, 1)
        ),
        test=tuple(block.write(folder, f"front-{number:02d}") for number, block in enumerate(test, 1)),
    )
    save_manifest(folder / "manifest.json", manifest)
    _write(folder / "whole.nii.gz", template.image, template.affine)
    whole = Case(image=("whole.nii.gz",), id="whole-template")
    text = "The whole ICBM 152 template, shown but not scored: the learning blocks lie in it."
    changes = {"name": "mni-template", "description": text, "training": (), "unlabeled": (), "test": (whole,)}
    save_manifest(folder / "whole.json", manifest.model_copy(update=changes))
    return manifest


def fit_thresholds(images: Sequence[Volume], labels: Sequence[Labels]) -> Thresholds:
    """Choose the two intensities that maximise the summed Dice of grey and white matter over all voxels given.

    Every pair of the 256 intensities is tried, from cumulative histograms.
    """
    counts = np.zeros((3, 257), dtype=np.int64)
    for image, label in zip(images, labels, strict=True):
        for value in range(3):
            counts[value, :256] += np.bincount(image[label == value], minlength=256)
    at_least = counts[:, ::-1].cumsum(axis=1)[:, ::-1]  # at_least[c, t]: voxels of class c with intensity >= t
    everything = at_least.sum(axis=0)
    low, high = np.meshgrid(np.arange(257), np.arange(257), indexing="ij")
    grey = _dice(at_least[1, low] - at_least[1, high], everything[low] - everything[high], at_least[1, 0])
    white = _dice(at_least[2, high], everything[high], at_least[2, 0])
    score = np.where(low <= high, grey + white, -1.0)
    best = np.unravel_index(int(score.argmax()), score.shape)
    return Thresholds(grey=int(best[0]), white=int(best[1]))


def threshold_dice(images: Sequence[Volume], labels: Sequence[Labels], thresholds: Thresholds) -> dict[str, float]:
    """Return the mean Dice over images of each tissue that two intensities alone reach; absent tissue is left out."""
    scores: dict[str, list[float]] = {LABELS["1"]: [], LABELS["2"]: []}
    for image, label in zip(images, labels, strict=True):
        found = (image >= thresholds.grey).astype(np.uint8) + (image >= max(thresholds.white, thresholds.grey))
        for value in (1, 2):
            reference = label == value
            if reference.any():
                both = np.count_nonzero(reference & (found == value))
                size = np.count_nonzero(reference) + np.count_nonzero(found == value)
                scores[LABELS[str(value)]].append(2 * both / size)
    return {name: float(np.mean(values)) for name, values in scores.items()}


def threshold_yardstick(folder: Path, manifest: Manifest) -> dict[str, float]:
    """Fit two intensities on the labelled training blocks and return the Dice of each tissue on the test blocks."""
    training, test = (list(_pairs(folder, part)) for part in (manifest.training, manifest.test))
    thresholds = fit_thresholds([image for image, _ in training], [label for _, label in training])
    return threshold_dice([image for image, _ in test], [label for _, label in test], thresholds)


class _Block:
    """One block of the template, named by its lowest world coordinates in mm."""

    def __init__(self, template: Template, start_mm: tuple[int, int, int]) -> None:
        first = np.rint(np.linalg.inv(template.affine) @ (*start_mm, 1.0))[:3].astype(int)
        window = tuple(slice(begin, begin + size) for begin, size in zip(first, BLOCK_MM, strict=True))
        self.image: Volume = template.image[window]
        self.labels: Labels = template.labels[window]
        self.affine = template.affine.copy()
        self.affine[:3, 3] = start_mm
        self.tissue = float(np.count_nonzero(self.labels)) / self.labels.size

    def write(self, folder: Path, name: str, *, label: bool = True) -> Case:
        image_file, label_file = f"images/{name}.nii.gz", f"labels/{name}.nii.gz"
        _write(folder / image_file, self.image, self.affine)
        if label:
            _write(folder / label_file, self.labels, self.affine)
        return Case(image=(image_file,), label=label_file if label else None, id=name)


def _starts(y_starts: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    for y in y_starts:
        for z in _Z_STARTS_MM:
            for x in _X_STARTS_MM:
                yield x, y, z


def _dice(overlap: NDArray[np.int64], found: NDArray[np.int64], reference: np.int64) -> NDArray[np.float64]:
    return np.asarray(2 * overlap / np.maximum(found + reference, 1), dtype=np.float64)


def _pairs(folder: Path, cases: Sequence[Case]) -> Iterator[tuple[Volume, Labels]]:
    for case in cases:
        if case.label is not None:
            yield _read(folder / case.image[0])[0], _read(folder / case.label)[0]


def _read(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    image = nib.load(path)
    return np.asanyarray(image.dataobj).astype(np.uint8), np.asarray(image.affine, dtype=np.float64)


def _write(path: Path, values: NDArray[np.uint8], affine: NDArray[np.float64]) -> None:
    image = nib.Nifti1Image(np.ascontiguousarray(values), affine)
    image.set_sform(affine, code="mni")
    image.set_qform(affine, code="mni")
    image.header.set_xyzt_units("mm")
    with atomic_path(path) as temporary:
        nib.save(image, temporary)


def _template_folder() -> Path:
    found = importlib.util.find_spec("nilearn")
    if found is not None and found.origin is not None:
        folder = Path(found.origin).parent / "datasets" / "data"
        if (folder / _FILE.format(map="t1")).is_file():
            return folder
    message = 'the demo needs the template in nilearn, which is not installed. Run: pip install "medssl[demo]".'
    raise DependencyError(message)
