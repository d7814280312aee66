"""Near duplicates between the parts of a manifest: what is trained on must not be what is scored.

Slices and images are found by their hashes, and a finer hash has to agree, because anatomy of one kind looks alike to
64 bits. Of volumes, brains above all, outlines tell which two are of one patient (`likeness`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from medssl.core.errors import ConfigError, MedsslError
from medssl.core.findings import Finding, finding_from
from medssl.data.images import is_image_file
from medssl.data.manifest import Case, Manifest, Part, resolve_image
from medssl.data.volumes import read_header
from medssl.reduction.hash_index import HashIndex
from medssl.reduction.hashing import HASH_BITS, Hashes, hamming
from medssl.reduction.items import CaseItems, ItemTask, Window, read_all
from medssl.reduction.likeness import FEW_SCANS, likeness, stands_out, step_for, usual_distances

# The scan itself, in another crop, kernel or file, has most of its slices in common; look-alike anatomy has few
SAME_SCAN_SHARE = 0.5
# Of the 256 bits of the finer hash. Equal 64-bit hashes of different people's brains differ in 8 and more of them;
# slices of a volume that set fewer than 32 show the tip of a brain, which all have, and are not compared. Published
# images were cropped, scaled and compressed anew: what a person calls the same slice differs in up to 60
_FINE_BITS_OF_EQUAL = 6
_FINE_BITS_OF_NEAR = 24
_FINE_BITS_OF_IMAGES = 60
_FINE_BITS_SET = 32
_NOT_NEAR = 255

_TRAINED: tuple[Part, ...] = ("training", "unlabeled")
_HELD_OUT: tuple[Part, ...] = ("validation", "test")


if TYPE_CHECKING:
    from medssl.reduction.likeness import Outline


@dataclass(frozen=True, kw_only=True)
class Leak:
    """A held-out case and a trained one that have slices in common.

    Attributes:
        held_out: Id of the validation or test case.
        held_out_part: Its part; "validation" is the trained side between validation and test.
        trained: Id of the case in training, unlabeled, or validation.
        trained_part: Its part.
        same_patient: Whether the manifest says so.
        slices: Slices of the held-out case that are compared: neither empty nor constant, nor nearly so.
        equal: How many of them have an equal hash in the other case.
        close: How many lie within 2 bits.
        near: How many lie within the threshold.
        alike: How many lie within the threshold by their 64 bits, whatever the finer hash says.
        likeness: Of two volumes, the correlation of their outlines, at most 1; else None.
        stands_out: Whether two volumes are far more alike than scans of different patients are here.
        same_file: Whether the files are equal, byte for byte.
    """

    held_out: str
    held_out_part: Part
    trained: str
    trained_part: Part
    same_patient: bool
    slices: int
    equal: int
    close: int
    near: int
    alike: int
    likeness: float | None = None
    stands_out: bool = False
    same_file: bool = False

    @property
    def is_same_scan(self) -> bool:
        """Whether most slices are near, as in two files of one scan."""
        return self.near > 0 and self.near >= SAME_SCAN_SHARE * self.slices

    def to_json(self) -> dict[str, Any]:
        """Return the fields, and whether it is the same scan."""
        return {**asdict(self), "same_scan": self.is_same_scan}


def find_leaks(
    manifest: Manifest, root: Path, *, threshold: int = 6, window: Window = "auto", workers: int | None = None
) -> tuple[list[Leak], list[Finding]]:
    """Compare every slice of validation and test with every slice of what is trained on, and test with validation.

    Args:
        manifest: All its parts are read.
        root: Folder that its paths start from.
        threshold: Bits of a near duplicate.
        window: How values become 8 bits.
        workers: Processes; None chooses by the size of the files.

    Returns:
        Pairs of cases with at least one near slice, or that stand out, in manifest order; and findings: an error for
        each pair that is the same scan, has an equal slice or seems to be of one patient, for each patient in several
        parts, and for each file that cannot be read; a warning for each volume that shows too little.

    Raises:
        ConfigError: If there is nothing to compare, or the threshold is not a whole number of bits from 0 to 63.
    """
    cases = list(manifest.cases())
    _refuse(manifest, [part for part, _ in cases], threshold)
    step = _outline_step(root, [case for _, case in cases])
    tasks = [
        ItemTask(root=root, case=case, modality=manifest.modality, window=window, outline_step=step)
        for _, case in cases
    ]
    read, findings = [], []
    for (part, case), outcome in zip(cases, read_all(tasks, workers=workers), strict=True):
        if isinstance(outcome, CaseItems):
            read.append(_Scan(part, case, outcome))
        else:
            findings.append(finding_from(outcome, case=case.id, where=case.image[0]))
    population = _give_usual_distances(read)
    trained = [scan for scan in read if scan.part in _TRAINED]
    validation, test = ([scan for scan in read if scan.part == part] for part in _HELD_OUT)
    leaks = [
        *_between(trained, validation, threshold, population),
        *_between([*trained, *validation], test, threshold, population),
    ]
    findings += [finding for scan in read for finding in scan.findings()]
    return leaks, [*findings, *_findings(leaks, threshold, population), *_patients(cases)]


def _refuse(manifest: Manifest, parts: Sequence[Part], threshold: float) -> None:
    if not 0 <= threshold < HASH_BITS or threshold != int(threshold):
        message = f"threshold: expected whole bits from 0 to {HASH_BITS - 1}, found {threshold:g}."
        raise ConfigError(message, fix="The published one is 6.")
    trained, held_out = (sum(part in side for part in parts) for side in (_TRAINED, _HELD_OUT))
    if not trained or not held_out:
        message = (
            f"manifest {manifest.name!r}: expected cases to train on and cases in validation or test, found {trained} "
            f"and {held_out}: there is nothing to compare."
        )
        raise ConfigError(message, fix="Set cases aside with medssl split, or name the manifest that has both.")


def _outline_step(root: Path, cases: Sequence[Case]) -> float:
    """Return the voxel size of the outlines; files that cannot be read are told of when they are read whole."""
    extents = []
    for case in cases:
        with suppress(MedsslError, OSError):
            file = resolve_image(root, case)[0]
            if not is_image_file(file):
                header = read_header(file)
                extents.append(max(np.multiply(header.shape, header.spacing_mm)))
    return step_for(extents) if extents else 1.0


class _Scan:
    """What is compared of a case: the hashes of its slices that show enough, and its outline."""

    def __init__(self, part: Part, case: Case, items: CaseItems) -> None:
        self.part = part
        self.case = case
        self.sha256 = items.sha256
        self.outline = items.outline
        self.usual = 1.0
        fine = cast("Hashes", items.fine)
        self.shown = ~items.empty
        bare = np.bitwise_count(fine).sum(axis=1, dtype=np.int64) < _FINE_BITS_SET
        self.compared = self.shown & ~bare if self.outline is not None else self.shown
        self.hashes: Hashes = items.descriptors[self.compared]
        self.fine = fine[self.compared]

    def findings(self) -> Iterator[Finding]:
        """Warn of a volume of which most slices are too bare to be compared."""
        if self.compared.sum() < SAME_SCAN_SHARE * self.shown.sum():
            text = (
                f"expected slices that show something, found enough in {self.compared.sum()} of {self.shown.sum()}; "
                "copies of the others would not be noticed."
            )
            fix = "Crop the volume to what it shows, or compare it by eye."
            yield Finding(code="leak-little-shown", severity="warning", text=text, fix=fix, case=self.case.id)


def _give_usual_distances(scans: Sequence[_Scan]) -> int:
    """Let each volume know its usual distance; return how many volumes there are."""
    volumes = [scan for scan in scans if scan.outline is not None]
    usual = usual_distances(
        [cast("Outline", scan.outline) for scan in volumes], [scan.case.patient for scan in volumes]
    )
    for scan, distance in zip(volumes, usual, strict=True):
        scan.usual = float(distance)
    return len(volumes)


class _Pool:
    """The slices of many scans, to be asked for those near another scan's."""

    def __init__(self, scans: Sequence[_Scan]) -> None:
        counts = [len(scan.hashes) for scan in scans]
        self.size = len(scans)
        self.index = HashIndex(np.concatenate([scan.hashes for scan in scans]))
        self.fine = np.concatenate([scan.fine for scan in scans])
        self.owners = np.repeat(np.arange(len(scans)), counts)
        self.of_volumes = np.repeat([scan.outline is not None for scan in scans], counts)

    def near(self, scan: _Scan, threshold: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
        """Return how near each slice of `scan` is to each of the scans, confirmed, and whether its 64 bits look alike.

        Both are (scans, slices).
        """
        best = np.full((self.size, len(scan.hashes)), _NOT_NEAR, dtype=np.uint8)
        alike = np.zeros(best.shape, dtype=bool)
        for pairs in self.index.within(scan.hashes, threshold):
            both_volumes = self.of_volumes[pairs.entries] & (scan.outline is not None)
            hashes = scan.fine[pairs.queries], self.fine[pairs.entries]
            places = self.owners[pairs.entries], pairs.queries
            np.minimum.at(best, places, _confirmed(pairs.distances, *hashes, both_volumes=both_volumes))
            alike[places] = True
        return best, alike


def _between(trained: Sequence[_Scan], held_out: Sequence[_Scan], threshold: int, population: int) -> Iterator[Leak]:
    if not trained or not held_out:
        return
    outlines, pool = _likeness(trained, held_out, population), _Pool(trained)
    for row, scan in enumerate(held_out):
        best, alike = pool.near(scan, threshold)
        for column, other in enumerate(trained):
            found, out = outlines.get((row, column), (None, False))
            leak = Leak(
                held_out=scan.case.id,
                held_out_part=scan.part,
                trained=other.case.id,
                trained_part=other.part,
                same_patient=scan.case.patient is not None and scan.case.patient == other.case.patient,
                slices=len(scan.hashes),
                equal=int((best[column] == 0).sum()),
                close=int((best[column] <= min(2, threshold)).sum()),
                near=int((best[column] <= threshold).sum()),
                alike=int(alike[column].sum()),
                likeness=found,
                stands_out=out,
                same_file=scan.sha256 == other.sha256,
            )
            if leak.alike or is_leak(leak):
                yield leak


def _confirmed(
    distances: npt.NDArray[Any], one: Hashes, other: Hashes, *, both_volumes: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """Return the distances, raised to what the finer hashes allow: between slices of volumes 1, or not near at all."""
    differ = hamming(one, other).sum(axis=1, dtype=np.int64)
    near = differ <= np.where(both_volumes, _FINE_BITS_OF_NEAR, _FINE_BITS_OF_IMAGES)
    least = np.where(both_volumes & (differ > _FINE_BITS_OF_EQUAL), 1, 0)
    return np.where(near, np.maximum(distances, least), _NOT_NEAR).astype(np.uint8)


def _likeness(
    trained: Sequence[_Scan], held_out: Sequence[_Scan], population: int
) -> dict[tuple[int, int], tuple[float, bool]]:
    """Return likeness and whether it stands out, of each pair of volumes (held out, trained)."""
    rows, columns = (
        [number for number, scan in enumerate(scans) if scan.outline is not None] for scans in (held_out, trained)
    )
    if not rows or not columns:
        return {}
    first, second = [held_out[row] for row in rows], [trained[column] for column in columns]
    found = likeness(*([cast("Outline", scan.outline) for scan in scans] for scans in (first, second)))
    usual = (np.array([scan.usual for scan in scans]) for scans in (first, second))
    out = stands_out(found, *usual, scans=population)
    return {
        (row, column): (round(float(found[i, j]), 4), bool(out[i, j]))
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
    }


def _findings(leaks: Sequence[Leak], threshold: int, population: int) -> Iterator[Finding]:
    fix = "Look at both; --out writes the manifest without the trained one. Or put both into one part."
    usual = "far more alike than scans of different patients are here" if population >= FEW_SCANS else "very alike"
    for leak in filter(is_leak, leaks):
        pair = f"this {leak.held_out_part} case and {leak.trained_part} case {leak.trained}"
        near = f"{pair}: {leak.near} of {leak.slices} slices lie within {threshold} bits, {leak.equal} are equal."
        if leak.same_file:
            code, text = "leak-same-file", f"{pair} are one file."
        elif leak.is_same_scan:
            code, text = "leak-same-scan", near
        elif leak.stands_out:
            code = "leak-same-patient"
            text = f"{pair} are {usual} (likeness {leak.likeness:.2f}): one scan, or one patient."
        else:
            code, text = "leak-equal-slice", near
        yield Finding(code=code, severity="error", text=text, fix=fix, case=leak.held_out)


def _patients(cases: Sequence[tuple[Part, Case]]) -> Iterator[Finding]:
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    for part, case in cases:
        if case.patient is not None:
            parts[case.patient].setdefault("training" if part in _TRAINED else part, case.id)
    for found in parts.values():
        if len(found) > 1:  # the patient is not named: findings travel further than the manifest
            listed = ", ".join(f"{case_id} ({part})" for part, case_id in found.items())
            fix = "Keep all cases of a patient in one part: medssl split does."
            text = f"one patient is in several parts: {listed}."
            yield Finding(code="patient-split", severity="error", text=text, fix=fix, case=next(iter(found.values())))


def is_leak(leak: Leak) -> bool:
    """Tell whether a pair is one scan, one patient, or has an equal slice; look-alikes are counted, not accused."""
    return leak.same_file or leak.is_same_scan or leak.stands_out or leak.equal > 0


def without_leaks(manifest: Manifest, leaks: Sequence[Leak]) -> Manifest:
    """Take the training and unlabelled cases that leak out of a manifest."""
    gone = {leak.trained for leak in leaks if is_leak(leak) and leak.trained_part in _TRAINED}
    left: dict[str, Any] = {
        part: tuple(case for case in manifest.part(part) if case.id not in gone) for part in _TRAINED
    }
    return manifest.model_copy(update=left)
