"""Check a whole manifest: every case by itself, and the cases against each other.

Codes beside those of `medssl.data.case_checks`: patient-split, duplicate, duplicate-mirrored, channel-count,
orientation-mixed, label-unused, id-case, worker-died.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from medssl.core.findings import Finding, Severity, finding_from
from medssl.data.case_checks import CaseReport, CaseTask, examine_case
from medssl.data.manifest import Case, Manifest, Part
from medssl.data.workers import default_workers, map_isolated


class _Seen(NamedTuple):
    part: Part
    case: Case
    report: CaseReport

    @property
    def place(self) -> str:
        return self.part if self.case.fold is None else f"{self.part}, fold {self.case.fold}"


Draws = Sequence[Collection[str]]


def check_manifest(manifest: Manifest, root: Path, *, workers: int | None = None, draws: Draws = ()) -> list[Finding]:
    """Look at every file that a manifest names, and at what the cases have in common.

    A case that cannot be read, or whose worker process dies, gives a finding; the others are checked all the same.

    Args:
        manifest: What to check.
        root: Folder that the manifest's paths start from.
        workers: Processes; None chooses by the size of the images, 0 uses this process. The result is the same.
        draws: Ids of the training cases that keep their labels, draw by draw; the other training cases become
            unlabelled ones. Equal voxels on both sides of a draw are an error.

    Returns:
        Findings in the order of the manifest, then by code; those on the whole data set come last.
    """
    tasks = [CaseTask(root=root, part=part, case=case, labels=manifest.labels) for part, case in manifest.cases()]
    count = default_workers(root / path for task in tasks for path in task.case.image) if workers is None else workers
    seen = [
        _Seen(task.part, task.case, _report(task, outcome))
        for task, outcome in zip(tasks, map_isolated(examine_case, tasks, workers=count), strict=True)
    ]
    findings = [finding for item in seen for finding in item.report.findings]
    findings += [*_patients(seen), *_duplicates(seen, draws), *_channel_counts(seen)]
    findings += [*_orientations(seen), *_unused_labels(seen, manifest), *_ids_alike(seen)]
    return _in_order(findings, [task.case.id for task in tasks])


def _report(task: CaseTask, outcome: CaseReport | Exception) -> CaseReport:
    if isinstance(outcome, CaseReport):
        return outcome
    return CaseReport(findings=[finding_from(outcome, case=task.case.id, where=task.case.image[0])])


def _in_order(findings: Iterable[Finding], case_ids: Sequence[str]) -> list[Finding]:
    position = {case_id: index for index, case_id in enumerate(case_ids)}

    def key(finding: Finding) -> tuple[int, str, str, str]:
        index = len(position) if finding.case is None else position[finding.case]
        return index, finding.code, finding.where or "", finding.text

    return sorted(findings, key=key)


def _leaks(first: _Seen, second: _Seen) -> bool:
    """Tell whether training on one would flatter the result on the other."""
    if first.part == second.part == "training":
        folds = {first.case.fold, second.case.fold}
        return None not in folds and len(folds) == 2
    # Training and unlabelled cases are both trained on; the others are held out, each for its own purpose
    return first.part != second.part and {first.part, second.part} != {"training", "unlabeled"}


def _pairs(groups: Iterable[list[_Seen]]) -> Iterator[tuple[_Seen, _Seen, bool]]:
    """Yield (earlier, later, leaks) for each later member; the earlier one is one it leaks to, if there is any."""
    for members in groups:
        for index, later in enumerate(members[1:], start=1):
            leaking = next((earlier for earlier in members[:index] if _leaks(earlier, later)), None)
            yield leaking or members[0], later, leaking is not None


def _grouped(seen: Iterable[tuple[Hashable, _Seen]]) -> list[list[_Seen]]:
    groups: dict[Hashable, list[_Seen]] = defaultdict(list)
    for key, item in seen:
        groups[key].append(item)
    return list(groups.values())


def _patients(seen: list[_Seen]) -> Iterator[Finding]:
    groups = _grouped((item.case.patient, item) for item in seen if item.case.patient is not None)
    for earlier, later, leaks in _pairs(groups):
        if leaks:  # the patient is not named: findings travel further than the manifest
            text = f"this case ({later.place}) is of the same patient as case {earlier.case.id} ({earlier.place})."
            fix = "Keep all cases of a patient in one part and fold: medssl split does."
            yield Finding(code="patient-split", severity="error", text=text, fix=fix, case=later.case.id)


def _duplicates(seen: list[_Seen], draws: Draws) -> Iterator[Finding]:
    hashed = [item for item in seen if item.report.digests is not None]
    for earlier, later, leaks in _pairs(_grouped((_hashes(item, mirrored=True), item) for item in hashed)):
        same = _hashes(earlier, mirrored=False) == _hashes(later, mirrored=False)
        parted = next((draw for draw in draws if _parts(draw, earlier, later)), None)
        # A labelled case in the unlabelled list teaches nothing new and is counted as if it did
        counted_twice = {earlier.part, later.part} == {"training", "unlabeled"} or parted is not None
        severity: Severity = "error" if leaks or counted_twice else "warning"
        kind = "the same voxels as" if same else "the same voxels, mirrored, as"
        text = f"this case ({later.place}) has {kind} case {earlier.case.id} ({earlier.place})."
        fix = "Take one of the two out" + (", or put both into one part and fold." if leaks else ".")
        if parted is not None and not leaks:
            text += f" The draw {', '.join(sorted(parted))} labels one of them and leaves the other unlabelled."
            fix = "Take one of the two out of the manifest, or put both into the same draws."
        code = "duplicate" if same else "duplicate-mirrored"
        yield Finding(code=code, severity=severity, text=text, fix=fix, case=later.case.id, where=later.case.image[0])


def _parts(draw: Collection[str], first: _Seen, second: _Seen) -> bool:
    """Tell whether a draw labels one of two training cases only."""
    both_drawn_from = first.part == second.part == "training"
    return both_drawn_from and (first.case.id in draw) != (second.case.id in draw)


def _hashes(item: _Seen, *, mirrored: bool) -> tuple[str, ...]:
    return tuple(digest.mirrored if mirrored else digest.exact for digest in item.report.digests or ())


def _channel_counts(seen: list[_Seen]) -> Iterator[Finding]:
    counts = Counter(len(item.case.image) for item in seen)
    if len(counts) < 2:
        return
    usual = max(counts, key=lambda count: (counts[count], count))
    for item in seen:
        found = len(item.case.image)
        if found != usual:
            text = f"expected {usual} image files (one a channel) as in {counts[usual]} cases, found {found}."
            fix = "Add the missing channel, remove the one too many, or take the case out."
            yield Finding(code="channel-count", severity="error", text=text, fix=fix, case=item.case.id)


def _orientations(seen: list[_Seen]) -> Iterator[Finding]:
    counts = Counter(item.report.orientation for item in seen if item.report.orientation is not None)
    if len(counts) > 1:
        listed = ", ".join(
            f"{count} {axes}" for axes, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
        )
        text = f"voxel axes point in different directions: {listed}."
        fix = "Nothing, if the bundle orients its images (the shipped ones do)."
        yield Finding(code="orientation-mixed", severity="info", text=text, fix=fix)


def _unused_labels(seen: list[_Seen], manifest: Manifest) -> Iterator[Finding]:
    read = [item.report.label_values for item in seen if item.report.label_values is not None]
    found = frozenset[int]().union(*read)
    for value in manifest.label_values():
        if read and value != 0 and value not in found:
            text = f"label {value} ({manifest.labels[str(value)]}) is in none of the {len(read)} label files read."
            yield Finding(code="label-unused", severity="info", text=text, fix="Remove it, or add cases that have it.")


def _ids_alike(seen: Sequence[_Seen]) -> Iterator[Finding]:
    """Name ids that a file system which ignores case would give one file."""
    first: dict[str, str] = {}
    for item in seen:
        other = first.setdefault(item.case.id.casefold(), item.case.id)
        if other != item.case.id:
            yield Finding(
                code="id-case",
                severity="error",
                case=item.case.id,
                text=f"the id differs from {other!r} in upper and lower case only, so their outputs may be one file",
                fix="Rename one of them in the manifest.",
            )
