"""Near duplicates between the parts of a manifest: what is trained on must not be what is scored.

Slices are found by their hashes. Volumes of one kind, brains above all, have look-alike slices all over, so between
volumes a finer hash has to agree; and their outlines tell which two are of one patient (`likeness`).
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

from medssl.core.errors import MedsslError
from medssl.core.findings import Finding, finding_from
from medssl.data.images import is_image_file
from medssl.data.manifest import Case, Manifest, Part, resolve_image
from medssl.data.volumes import read_header
from medssl.data.workers import default_threads, default_workers, map_isolated
from medssl.reduction.hash_index import HashIndex
from medssl.reduction.hashing import HASH_BITS, Hashes, hamming
from medssl.reduction.items import CaseItems, ItemTask, Window, read_items
from medssl.reduction.likeness import likeness, stands_out, step_for

# The scan itself, in another crop, kernel or file, has most of its slices in common; look-alike anatomy has few
SAME_SCAN_SHARE = 0.5
# Of the 256 bits of the finer hash. Equal 64-bit hashes of different people's brains differ in 8 and more of them;
# slices that set fewer than 32 show the tip of a brain, which all have
_FINE_BITS_OF_EQUAL = 6
_FINE_BITS_OF_NEAR = 24
_FINE_BITS_SET = 32

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
        slices: Slices of the held-out case that are neither empty nor constant.
        equal: How many of them have an equal hash in the other case.
        close: How many lie within 2 bits.
        near: How many lie within the threshold.
        likeness: Of two volumes, the correlation of their outlines, at most 1; else None.
        stands_out: Whether two volumes are far more alike than scans of different patients are here.
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
    likeness: float | None = None
    stands_out: bool = False

    @property
    def is_same_scan(self) -> bool:
        """Whether most slices are near, as in two files of one scan, or the volumes are of one patient."""
        return self.stands_out or (self.near > 0 and self.near >= SAME_SCAN_SHARE * self.slices)

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
        Pairs of cases with at least one near slice, in manifest order; and findings: an error for each pair that is
        the same scan, has an equal slice or is of the same patient, and for each file that cannot be read.
    """
    cases = list(manifest.cases())
    step = _outline_step([resolve_image(root, case)[0] for _, case in cases])
    tasks = [
        ItemTask(root=root, case=case, modality=manifest.modality, window=window, outline_step=step)
        for _, case in cases
    ]
    count = default_workers(root / task.case.image[0] for task in tasks) if workers is None else workers
    read, findings = [], []
    outcomes = map_isolated(read_items, tasks, workers=count, threads=default_threads())
    for (part, case), outcome in zip(cases, outcomes, strict=True):
        if isinstance(outcome, CaseItems):
            read.append(_Scan(part, case, outcome))
        else:
            findings.append(finding_from(outcome, case=case.id, where=case.image[0]))
    trained = [scan for scan in read if scan.part in _TRAINED]
    validation, test = ([scan for scan in read if scan.part == part] for part in _HELD_OUT)
    leaks = [*_between(trained, validation, threshold), *_between([*trained, *validation], test, threshold)]
    return leaks, [*findings, *_findings(leaks, threshold), *_patients(cases)]


def _outline_step(files: Sequence[Path]) -> float:
    """Return the voxel size of the outlines; files that cannot be read are told of when they are read whole."""
    extents = []
    for file in files:
        with suppress(MedsslError, OSError):
            if not is_image_file(file):
                header = read_header(file)
                extents.append(max(np.multiply(header.shape, header.spacing_mm)))
    return step_for(extents) if extents else 1.0


class _Scan:
    """What is compared of a case: the hashes of its slices that show something, and its outline."""

    def __init__(self, part: Part, case: Case, items: CaseItems) -> None:
        self.part = part
        self.case = case
        self.hashes: Hashes = items.descriptors[~items.empty]
        self.outline = items.outline
        self.fine = cast("Hashes", items.fine)[~items.empty]


def _between(trained: Sequence[_Scan], held_out: Sequence[_Scan], threshold: int) -> Iterator[Leak]:
    if not trained or not held_out:
        return
    alike = _likeness(trained, held_out)
    owners = np.repeat(np.arange(len(trained)), [len(scan.hashes) for scan in trained])
    index = HashIndex(np.concatenate([scan.hashes for scan in trained]))
    fine = np.concatenate([scan.fine for scan in trained])
    volumes = np.array([scan.outline is not None for scan in trained])
    for row, scan in enumerate(held_out):
        best: dict[int, dict[int, int]] = defaultdict(dict)
        for pairs in index.within(scan.hashes, threshold):
            both = volumes[owners[pairs.entries]] & (scan.outline is not None)
            distances = _confirmed(pairs.distances, scan.fine[pairs.queries], fine[pairs.entries], both)
            for query, owner, distance in zip(pairs.queries, owners[pairs.entries], distances, strict=True):
                if distance <= threshold:
                    slices = best[int(owner)]
                    slices[int(query)] = min(int(distance), slices.get(int(query), threshold))
        for owner, other in enumerate(trained):
            found = alike.get((row, owner))
            if owner in best or (found is not None and found[1]):
                slices = best[owner]
                yield Leak(
                    held_out=scan.case.id,
                    held_out_part=scan.part,
                    trained=other.case.id,
                    trained_part=other.part,
                    same_patient=scan.case.patient is not None and scan.case.patient == other.case.patient,
                    slices=len(scan.hashes),
                    equal=sum(distance == 0 for distance in slices.values()),
                    close=sum(distance <= 2 for distance in slices.values()),
                    near=len(slices),
                    likeness=None if found is None else round(found[0], 4),
                    stands_out=found is not None and found[1],
                )


def _confirmed(
    distances: npt.NDArray[Any], one: Hashes, other: Hashes, volumes: npt.NDArray[np.bool_]
) -> npt.NDArray[Any]:
    """Return the distances, between slices of volumes raised to what their finer hashes allow."""
    differ = hamming(one, other).sum(axis=1, dtype=np.int64)
    shown = np.minimum(*(np.bitwise_count(each).sum(axis=1, dtype=np.int64) for each in (one, other)))
    bare = shown < _FINE_BITS_SET
    least = np.where(differ > _FINE_BITS_OF_NEAR, HASH_BITS, np.where(differ > _FINE_BITS_OF_EQUAL, 1, 0))
    least = np.where(bare, HASH_BITS, least)
    return np.where(volumes, np.maximum(distances, least), distances)


def _likeness(trained: Sequence[_Scan], held_out: Sequence[_Scan]) -> dict[tuple[int, int], tuple[float, bool]]:
    """Return likeness and whether it stands out, of each pair of volumes (held out, trained)."""
    rows, columns = (
        [number for number, scan in enumerate(scans) if scan.outline is not None] for scans in (held_out, trained)
    )
    if not rows or not columns:
        return {}
    first = [cast("Outline", held_out[row].outline) for row in rows]
    second = [cast("Outline", trained[column].outline) for column in columns]
    found = likeness(first, second)
    out = stands_out(found, first, second)
    return {
        (row, column): (float(found[i, j]), bool(out[i, j]))
        for i, row in enumerate(rows)
        for j, column in enumerate(columns)
    }


def _findings(leaks: Sequence[Leak], threshold: int) -> Iterator[Finding]:
    for leak in leaks:
        if is_leak(leak):
            text = (
                f"this {leak.held_out_part} case and {leak.trained_part} case {leak.trained} are far more alike than "
                f"scans of different patients are here (likeness {leak.likeness:.2f}): one scan, or one patient."
                if leak.stands_out
                else f"{leak.near} of {leak.slices} slices of this {leak.held_out_part} case lie within {threshold} "
                f"bits of {leak.trained_part} case {leak.trained}, {leak.equal} are equal."
            )
            code = "leak-same-scan" if leak.is_same_scan else "leak-equal-slice"
            fix = "Look at both; take the trained one out with --remove, or put both into one part."
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
    """Tell whether a pair is the same scan or has an equal slice; mere look-alikes are counted, not accused."""
    return leak.is_same_scan or leak.equal > 0


def without_leaks(manifest: Manifest, leaks: Sequence[Leak]) -> Manifest:
    """Take the training and unlabelled cases that leak out of a manifest."""
    gone = {leak.trained for leak in leaks if is_leak(leak) and leak.trained_part in _TRAINED}
    left: dict[str, Any] = {
        part: tuple(case for case in manifest.part(part) if case.id not in gone) for part in _TRAINED
    }
    return manifest.model_copy(update=left)
