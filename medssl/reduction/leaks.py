"""Near duplicates between the parts of a manifest: what is trained on must not be what is scored."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medssl.core.findings import Finding, finding_from
from medssl.data.manifest import Case, Manifest, Part
from medssl.data.workers import default_workers, map_isolated
from medssl.reduction.hash_index import HashIndex
from medssl.reduction.hashing import Hashes
from medssl.reduction.items import CaseItems, ItemTask, Window, read_items

# The scan itself, in another crop, kernel or file, has most of its slices in common; look-alike anatomy has few
SAME_SCAN_SHARE = 0.5

_TRAINED: tuple[Part, ...] = ("training", "unlabeled")
_HELD_OUT: tuple[Part, ...] = ("validation", "test")


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

    @property
    def is_same_scan(self) -> bool:
        """Whether most slices are near, as in two files of one scan."""
        return self.near >= SAME_SCAN_SHARE * self.slices

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
    tasks = [ItemTask(root=root, case=case, modality=manifest.modality, window=window) for _, case in cases]
    count = default_workers(root / task.case.image[0] for task in tasks) if workers is None else workers
    read, findings = [], []
    for (part, case), outcome in zip(cases, map_isolated(read_items, tasks, workers=count), strict=True):
        if isinstance(outcome, CaseItems):
            read.append((part, case, outcome.descriptors[~outcome.empty]))
        else:
            findings.append(finding_from(outcome, case=case.id, where=case.image[0]))
    trained = [entry for entry in read if entry[0] in _TRAINED]
    validation, test = ([entry for entry in read if entry[0] == part] for part in _HELD_OUT)
    leaks = [*_between(trained, validation, threshold), *_between([*trained, *validation], test, threshold)]
    return leaks, [*findings, *_findings(leaks, threshold), *_patients(cases)]


_Read = tuple[Part, Case, Hashes]


def _between(trained: Sequence[_Read], held_out: Sequence[_Read], threshold: int) -> Iterator[Leak]:
    if not trained or not held_out:
        return
    owners = np.repeat(np.arange(len(trained)), [len(hashes) for _, _, hashes in trained])
    index = HashIndex(np.concatenate([hashes for _, _, hashes in trained]))
    for part, case, hashes in held_out:
        best: dict[int, dict[int, int]] = defaultdict(dict)
        for pairs in index.within(hashes, threshold):
            for query, owner, distance in zip(pairs.queries, owners[pairs.entries], pairs.distances, strict=True):
                slices = best[int(owner)]
                slices[int(query)] = min(int(distance), slices.get(int(query), threshold))
        for owner, slices in sorted(best.items()):
            other_part, other, _ = trained[owner]
            yield Leak(
                held_out=case.id,
                held_out_part=part,
                trained=other.id,
                trained_part=other_part,
                same_patient=case.patient is not None and case.patient == other.patient,
                slices=len(hashes),
                equal=sum(distance == 0 for distance in slices.values()),
                close=sum(distance <= 2 for distance in slices.values()),
                near=len(slices),
            )


def _findings(leaks: Sequence[Leak], threshold: int) -> Iterator[Finding]:
    for leak in leaks:
        if is_leak(leak):
            text = (
                f"{leak.near} of {leak.slices} slices of this {leak.held_out_part} case lie within {threshold} bits of "
                f"{leak.trained_part} case {leak.trained}, {leak.equal} are equal."
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
