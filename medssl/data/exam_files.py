"""Find bi-parametric prostate exams below a folder by the names of their files."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from medssl.core.findings import Finding
from medssl.data.volumes import SUFFIXES

SEQUENCES = ("t2w", "adc", "hbv")
"""The sequences of an exam, in the order of the channels: T2-weighted, diffusion coefficient, high-b diffusion."""

_ROLES = {
    "t2w": r"t2w?|t2_?(?:tse|ax|tra)\w*",
    "adc": r"adc(?:_?map)?",
    "hbv": r"hbv|dwi|high_?b(?:_?value)?|b(?:8|9|1\d|2\d)00",
    "label": r"cspca\w*|isup|lesions?|label|seg",
    "gland": r"(?:whole_?)?(?:prostate_?)?gland\w*|prostate(?:_?mask)?",
    "other": r"sag|cor",  # further planes of the same exam, which nothing here reads
}
_NAME = re.compile(
    r"(?:(?P<exam>.+?)[_.\- ])??(?:" + "|".join(f"(?P<{role}>{names})" for role, names in _ROLES.items()) + r")",
    re.IGNORECASE,
)
_PATIENT_AND_STUDY = re.compile(r"(\d+)_(\d+)")
_LISTED = 3

_Groups = dict[str, dict[str, list[Path]]]


@dataclass(frozen=True, kw_only=True)
class ExamFiles:
    """The files of one exam.

    Attributes:
        id: Name of the exam's folder, or what stands before the sequence in the names of its files.
        patient: Folders above, or the number before the study's, or None.
        files: Files by role: "t2w", "adc", "hbv", "label", "gland"; more than one is a fault; "other" is not read.
    """

    id: str
    patient: str | None
    files: dict[str, tuple[Path, ...]] = field(default_factory=dict)

    def one(self, role: str) -> Path | None:
        """Return the file of a role, or None."""
        found = self.files.get(role, ())
        return found[0] if found else None


def find_exams(source: Path) -> tuple[list[ExamFiles], list[Finding]]:
    """Group the image files below a folder into exams, in the order of their ids.

    Two layouts are known and may be mixed: a folder for each exam (`exam/t2w.mha`, `exam/adc.mha`, ...), also below a
    folder for each patient; and PI-CAI's `<patient>_<study>_t2w.mha` in any folders, with labels of the same prefix
    or named `<patient>_<study>.nii.gz`. Files with another name in front of the sequence are an exam if they share it,
    and where several folders hold sequences of one such name, an exam of each folder.

    Args:
        source: Folder, searched through, without hidden files and folders.

    Returns:
        The exams, and a finding about images that belong to none. What looks like an exam without any sequence (a
        label or a mask of the gland alone, or a folder of several images of unknown names) is among the exams, with
        the images that nothing is known about as "other": it must not vanish.
    """
    grouped: _Groups = defaultdict(lambda: defaultdict(list))
    patients: dict[str, str | None] = {}
    bare: list[Path] = []
    for path in sorted(_visible_files(source)):
        stem = _stem(path)
        if stem is None:
            continue
        match = _NAME.fullmatch(stem)
        if match is None:
            bare.append(path)
            continue
        role = next(role for role in _ROLES if match[role] is not None)
        exam, patient = _exam(source, path, match["exam"])
        grouped[exam][role].append(path)
        patients[exam] = patient
    # A file named like an exam, and like no sequence, is its label: the way PI-CAI names its delineations
    labels = [path for path in bare if _stem(path) in grouped]
    for path in labels:
        grouped[str(_stem(path))]["label"].append(path)
    for exam in [exam for exam in grouped if _PATIENT_AND_STUDY.fullmatch(exam) is None]:
        _part_folders(exam, source, grouped, patients)
    left = _add_unnamed(sorted({*bare} - {*labels}), source, grouped, patients)
    exams = []
    for exam, roles in sorted(grouped.items()):
        if roles.keys() == {"other"} and len(roles["other"]) == 1:
            left += roles["other"]
        else:
            files = {role: tuple(paths) for role, paths in roles.items()}
            exams.append(ExamFiles(id=exam, patient=patients[exam], files=files))
    return exams, _passed_over(left, source)


def _visible_files(source: Path) -> Iterator[Path]:
    """Yield the files below a folder, each folder once: by its own path, and by a link only if it lies elsewhere."""
    seen: set[tuple[int, int]] = set()
    own, linked = [source], list[Path]()
    while own or linked:
        folder = (own or linked).pop(0)
        try:
            status, paths = folder.stat(), sorted(folder.iterdir())
        except PermissionError:  # as elsewhere in the file system, what may not be looked into is not there
            continue
        place = (status.st_dev, status.st_ino)
        if place in seen:
            continue
        seen.add(place)
        for path in (each for each in paths if not each.name.startswith(".")):
            if path.is_dir():
                (linked if path.is_symlink() else own).append(path)
            else:
                yield path


def _part_folders(exam: str, source: Path, grouped: _Groups, patients: dict[str, str | None]) -> None:
    """Make an exam of each folder that holds sequences of one name, as p1/scan_t2w and p2/scan_t2w: two patients'.

    A folder for each sequence, t2w/scan_t2w beside adc/scan_adc, is one exam.
    """
    roles = grouped[exam]
    held: dict[Path, list[str]] = defaultdict(list)
    for role in SEQUENCES:
        for path in roles.get(role, ()):
            held[path.parent].append(role)
    is_twice = any(len(roles.get(role, ())) > 1 for role in SEQUENCES)
    if len(held) < 2 or not (is_twice or max(map(len, held.values())) > 1):
        return
    del grouped[exam], patients[exam]
    for role, paths in roles.items():
        for path in paths:
            above = _home(path.parent, list(held)).relative_to(source).parts
            name = "__".join([*above, exam])
            grouped[name][role].append(path)
            patients[name] = "__".join(above[:-1] or above) or None


def _home(folder: Path, folders: list[Path]) -> Path:
    """Return which of several folders shares most of its path with one; that one itself where several share as much."""
    if folder in folders:
        return folder
    shared = [len(os.path.commonpath([folder, each])) for each in folders]
    nearest = [each for each, length in zip(folders, shared, strict=True) if length == max(shared)]
    return nearest[0] if len(nearest) == 1 else folder


def _add_unnamed(paths: list[Path], source: Path, grouped: _Groups, patients: dict[str, str | None]) -> list[Path]:
    """Add images of unknown names to the exams that their folders seem to be, and return those that belong to none."""
    named = [paths for roles in grouped.values() if roles.keys() & {*SEQUENCES} for paths in roles.values()]
    folders = {path.parent for each in named for path in each}
    left = []
    for path in paths:
        # Beside an exam's sequences it is one more image; PI-CAI's name without them is the label of an exam elsewhere
        if path.parent in folders or _PATIENT_AND_STUDY.fullmatch(str(_stem(path))):
            left.append(path)
        else:
            exam, patient = _exam(source, path, None)
            grouped[exam]["other"].append(path)
            patients[exam] = patient
    return left


def _stem(path: Path) -> str | None:
    """Return the name without its suffix, or None for a folder or what is no image."""
    suffix = next((suffix for suffix in (".nii.gz", *SUFFIXES) if path.name.lower().endswith(suffix)), None)
    return None if suffix is None or path.is_dir() else path.name[: -len(suffix)]


def _exam(source: Path, path: Path, prefix: str | None) -> tuple[str, str | None]:
    if prefix is not None:
        numbers = _PATIENT_AND_STUDY.fullmatch(prefix)
        return prefix, None if numbers is None else numbers[1]
    folders = path.parent.relative_to(source).parts or (source.name,)
    return "__".join(folders), "__".join(folders[:-1]) or None


def _passed_over(paths: list[Path], source: Path) -> list[Finding]:
    if not paths:
        return []
    listed = ", ".join(path.relative_to(source).as_posix() for path in paths[:_LISTED])
    text = f"{len(paths)} images name no sequence of an exam and were passed over ({listed})."
    fix = "Nothing, or name them as t2w, adc, hbv, lesion or gland, with the exam in front or as their folder."
    return [Finding(code="file-other", severity="info", text=text, fix=fix)]
