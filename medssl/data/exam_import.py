"""Bring one prostate exam on one grid: three sequences, the lesions and what is needed to go back to the T2W."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medssl.core.errors import GeometryError, ImageError, MedsslError
from medssl.core.files import sha256_file, write_json
from medssl.core.findings import Finding, Severity, finding_from, has_errors
from medssl.core.provenance import provenance
from medssl.data.case_checks import count_label_values, require_same_grid
from medssl.data.exam_files import SEQUENCES, ExamFiles
from medssl.data.exam_lesions import lesions_on_grid
from medssl.data.exam_sequences import (
    AdcScaling,
    judge_field_of_view,
    normalise,
    require_adc_units,
    require_coverage,
    require_fine_t2w,
)
from medssl.data.grids import Grid, covered, resample, working_grid
from medssl.data.volume_checks import no_permission, size_of_regular_file
from medssl.data.volume_writing import write_volume
from medssl.data.volumes import Header, Volume, read_volume

LabelValues = Literal["isup", "binary"]
GRID_FILE = "exam.json"
"""Beside the images of an exam: the grid of its T2W, the hashes of what it was made from, and what was noticed."""

_FORMAT = 2  # raised where the same files and options come to other voxels, so that no data set mixes both
_HIGHEST_GRADE = 5
_LISTED = 6
# The reader's own remedy is to list several files as the case's image, which an exam has no place for
_ONE_VOLUME = (
    "Write one 3D volume for this file: the ADC map, or of a diffusion series the image of the highest b-value."
)
_SIGNIFICANT = {"isup": 2, "binary": 1}
_HIGHEST = {"isup": _HIGHEST_GRADE, "binary": 1}


@dataclass(frozen=True, kw_only=True)
class ExamOptions:
    """How exams are brought on one grid.

    Attributes:
        crop: Voxels of the result along R, A, S.
        spacing_mm: Their size.
        adc_scaling: "zscore" as the other sequences, or "fixed" for 0 to 3000e-6 mm2/s as 0 to 1.
        label_values: "isup": values are ISUP grades 0 to 5, and 2 or more is significant; "binary": 1 is significant.
    """

    crop: tuple[int, int, int] = (256, 256, 20)
    spacing_mm: tuple[float, float, float] = (0.5, 0.5, 3.0)
    adc_scaling: AdcScaling = "zscore"
    label_values: LabelValues = "isup"


@dataclass(frozen=True, kw_only=True)
class ExamJob:
    """One exam, what is wanted of it and the folder for the result; picklable.

    Attributes:
        exam: Its files.
        folder: Where the result goes.
        options: What is wanted.
        replace: Whether what an earlier import made there from other files or with other options may be replaced.
    """

    exam: ExamFiles
    folder: Path
    options: ExamOptions
    replace: bool = False


@dataclass(frozen=True, kw_only=True)
class ExamResult:
    """What became of an exam.

    Attributes:
        findings: What was noticed; with an error among it, nothing was written.
        label_values: Values of the label file, or None without one.
        significant: Whether a significant lesion is within the crop; None without a label.
    """

    findings: tuple[Finding, ...] = ()
    label_values: tuple[int, ...] | None = None
    significant: bool | None = None


def import_exam(job: ExamJob) -> ExamResult:
    """Write t2w, adc, hbv and label of one exam on the working grid; what was written before from the same is kept.

    Every file is whole or not there, and exam.json comes last, so that an interrupted import goes on where it was.
    Memory: one sequence of the exam at a time, beside the crop.
    """
    exam = job.exam
    problems = [*_absent(exam), *_twice(exam)]
    if problems:
        return ExamResult(findings=tuple(problems))
    hashes, faults = _hashes(exam)
    record = _record_of(job, hashes)
    if record is None and not job.replace and (job.folder / GRID_FILE).is_file():
        return ExamResult(findings=tuple(faults) or (_taken(job),))
    result = None if record is None else _recorded(job, record)
    return result if result is not None else _Exam(job, hashes).run()


def _taken(job: ExamJob) -> Finding:
    text = (
        f"expected nothing at {job.folder.parent.name}/{job.folder.name}, or the same exam, found one that was made "
        "from other files, with other options or by another version. It was left as it is."
    )
    fix = "Choose an --out in another folder, or replace what lies there with --force."
    return Finding(code="exam-exists", severity="error", case=job.exam.id, text=text, fix=fix)


def _hashes(exam: ExamFiles) -> tuple[dict[str, str], list[Finding]]:
    """Return the hash of each file, and what is wrong with those that are out of reach."""
    found, faults = {}, []
    for role, paths in exam.files.items():
        if role != "other":
            try:
                size_of_regular_file(paths[0])  # a pipe would be waited for
                found[role] = sha256_file(paths[0])
            except PermissionError:
                faults.append(finding_from(no_permission(paths[0]), case=exam.id, where=paths[0].name))
            except (MedsslError, OSError) as error:
                faults.append(finding_from(error, case=exam.id, where=paths[0].name))
    return found, faults


def native_grid(folder: Path) -> Grid | None:
    """Return the grid of the T2W that the images of a folder were cut from, or None where no exam was imported.

    Raises:
        GeometryError: If the record of the exam cannot be understood.
    """
    file = folder / GRID_FILE
    if not file.is_file():
        return None
    try:
        stated = json.loads(file.read_text(encoding="utf-8"))["t2w_grid"]
        x, y, z = (int(size) for size in stated["shape"])
        affine = np.array(stated["affine"], dtype=np.float64)
        if affine.shape != (4, 4) or min(x, y, z) < 1:
            raise ValueError("no grid")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        text = f"{file.name}: expected the grid of the exam's T2W, found something else ({error})."
        raise GeometryError(text, fix="Import the exam again.", code="exam-record") from error
    return Grid(shape=(x, y, z), affine=affine)


def _absent(exam: ExamFiles) -> list[Finding]:
    missing = [sequence.upper() for sequence in SEQUENCES if exam.one(sequence) is None]
    if not missing:
        return []
    there = [paths[0].name for role, paths in exam.files.items() if role in SEQUENCES]
    if there:
        found = f"no {' and no '.join(missing)} beside {', '.join(there)}"
    else:
        names = [path.name for paths in exam.files.values() for path in paths]
        found = f"none of them, only {', '.join(names[:_LISTED])}{', ...' if len(names) > _LISTED else ''}"
    text = f"expected T2W, ADC and HBV (high-b DWI), found {found}."
    fix = (
        "Name the files after their sequences, in a folder for each exam (t2w, adc and hbv, with label and gland where "
        "there are some) or with the exam in front (17_t2w), or leave the exam out."
    )
    return [Finding(code="sequence-missing", severity="error", case=exam.id, text=text, fix=fix)]


def _twice(exam: ExamFiles) -> list[Finding]:
    findings = []
    for role, paths in exam.files.items():
        if len(paths) > 1 and role != "other":
            text = f"expected one file as {role}, found {len(paths)}: {', '.join(_short(path) for path in paths[:4])}."
            fix = "Keep the one that is meant."
            findings.append(Finding(code="sequence-twice", severity="error", case=exam.id, text=text, fix=fix))
    return findings


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _record_of(job: ExamJob, hashes: dict[str, str]) -> dict[str, Any] | None:
    """Return the record of an earlier import from the same files with the same options, or None."""
    try:
        content: dict[str, Any] = json.loads((job.folder / GRID_FILE).read_text(encoding="utf-8"))
        stated = content["medssl"]["inputs"], content["options"], content["format"]
    except (OSError, ValueError, KeyError, TypeError):  # none, or another version's
        return None
    return content if stated == (hashes, _plain(job.options), _FORMAT) else None


def _recorded(job: ExamJob, record: dict[str, Any]) -> ExamResult | None:
    """Return the result that a record tells of, if its files are there."""
    try:
        if not all((job.folder / f"{name}.nii.gz").stat().st_size for name in record["files"]):
            return None
        values = record["label_values"]
        return ExamResult(
            findings=tuple(Finding(**finding) for finding in record["findings"]),
            label_values=None if values is None else tuple(values),
            significant=record["significant"],
        )
    except (OSError, KeyError, TypeError):
        return None


def _plain(options: ExamOptions) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(options).items()}


@dataclass(kw_only=True)
class _Lesions:
    label: NDArray[np.uint8]
    values: tuple[int, ...]


@dataclass
class _Exam:
    """Collects the findings of one exam while it is read; no fault hides another."""

    job: ExamJob
    hashes: dict[str, str]
    findings: list[Finding] = field(default_factory=list)

    def run(self) -> ExamResult:
        exam = self.job.exam
        t2w: Volume | None = self.guard("t2w", self.read_t2w)
        if t2w is None:
            for sequence in SEQUENCES[1:]:
                self.guard(sequence, self.read, sequence)
            return self.failed()
        header, options = t2w.header, self.job.options
        native = Grid(shape=header.shape, affine=header.affine)
        centre = self.guard("gland", self.gland_centre, header)
        target = working_grid(native, spacing_mm=options.spacing_mm, shape=options.crop, centre_mm=centre)
        within = covered(native.shape, native.affine, target)
        self.findings += judge_field_of_view(header, within, case=exam.id)
        images = {"t2w": self.guard("t2w", self.place, t2w, within, target)}
        del t2w
        for sequence in SEQUENCES[1:]:
            images[sequence] = self.guard(sequence, self.read_and_place, sequence, target, within)
        lesions: _Lesions | None = None
        if exam.one("label") is not None:
            lesions = self.guard("label", self.read_lesions, header, target)
        return self.failed() if has_errors(self.findings) else self.write(images, lesions, native, target)

    def failed(self) -> ExamResult:
        (self.job.folder / GRID_FILE).unlink(missing_ok=True)  # of an earlier import: no longer true
        return ExamResult(findings=tuple(self.findings))

    def guard(self, role: str, action: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return action(*arguments)
        except Exception as error:  # one broken file must not hide the next
            path = self.job.exam.one(role)
            finding = finding_from(error, case=self.job.exam.id, where=None if path is None else path.name)
            self.findings.append(replace(finding, fix=_ONE_VOLUME) if finding.code == "image-dimensions" else finding)
            return None

    def path(self, role: str) -> Path:
        path = self.job.exam.one(role)
        if path is None:
            message = f"{role}: expected a file."
            raise ImageError(message)
        return path

    def read_t2w(self) -> Volume:
        volume = read_volume(self.path("t2w"))
        require_fine_t2w(volume.header)
        return volume

    def read(self, sequence: str) -> Volume:
        volume = read_volume(self.path(sequence))
        if sequence == "adc":
            require_adc_units(volume.header, volume.voxels)
        return volume

    def read_and_place(self, sequence: Any, target: Grid, within: NDArray[np.bool_]) -> NDArray[np.float32]:
        volume = self.read(sequence)
        header = volume.header
        inside = covered(header.shape, header.affine, target)
        require_coverage(header, inside, within=within, sequence=sequence)
        fixed = sequence == "adc" and self.job.options.adc_scaling == "fixed"
        return self.place(volume, inside, target, fixed=fixed)

    def place(
        self, volume: Volume, inside: NDArray[np.bool_], target: Grid, *, fixed: bool = False
    ) -> NDArray[np.float32]:
        moved = resample(volume.voxels, volume.header.affine, target)
        return normalise(moved, inside, name=volume.header.path.name, fixed=fixed)

    def gland_centre(self, t2w: Header) -> NDArray[np.float64] | None:
        """Return the middle of the gland's box in mm, or None without a usable mask."""
        path = self.job.exam.one("gland")
        if path is None:
            return None
        fix = "The crop is round the centre of the T2W instead; export the mask again to change that."
        try:
            mask = read_volume(path)
            require_same_grid(t2w, mask.header, "gland")
        except MedsslError as error:
            self.notice("gland-unusable", error.text, fix=fix, where=path.name)
            return None
        corners = np.argwhere(mask.voxels > 0)
        if not len(corners):
            self.notice("gland-unusable", f"{path.name}: expected a mask of the gland, found nothing.", fix=fix)
            return None
        middle = (corners.min(0) + corners.max(0)) / 2
        return np.asarray(mask.header.affine @ np.append(middle, 1.0))[:3]

    def notice(
        self, code: str, text: str, *, fix: str, where: str | None = None, severity: Severity = "warning"
    ) -> None:
        finding = Finding(code=code, severity=severity, case=self.job.exam.id, text=text, fix=fix, where=where)
        self.findings.append(finding)

    def read_lesions(self, t2w: Header, target: Grid) -> _Lesions:
        path, kind = self.path("label"), self.job.options.label_values
        volume = read_volume(path)
        require_same_grid(t2w, volume.header, "label")
        values = tuple(count_label_values(volume))
        unknown = [value for value in values if not 0 <= value <= _HIGHEST[kind]]
        if unknown:
            known = "ISUP grades 0 to 5" if kind == "isup" else "0 and 1"
            text = f"{path.name}: expected {known} as label values, found {', '.join(map(str, unknown[:5]))}."
            fix = "Write the label again, or say what its values mean with --label-values."
            raise ImageError(text, fix=fix, code="label-value")
        significant = volume.voxels >= _SIGNIFICANT[kind]
        native = Grid(shape=t2w.shape, affine=t2w.affine)
        label, thin = lesions_on_grid(significant, native, target)
        self.require_lesions_inside(significant, label, native, target, path.name)
        if thin:
            text = f"{path.name}: {thin} of the lesions lay between the slices of the new grid."
            fix = "Nothing: the voxels of the new grid nearest to theirs stand for them."
            self.notice("lesion-thin", text, fix=fix, where=path.name, severity="info")
        return _Lesions(label=label, values=values)

    def require_lesions_inside(
        self, significant: NDArray[np.bool_], label: NDArray[np.uint8], native: Grid, target: Grid, name: str
    ) -> None:
        whole = int(np.count_nonzero(significant))
        if not whole:
            return
        within = covered(target.shape, target.affine, native)
        outside = int(np.count_nonzero(significant & ~within))
        fix = "Use a larger --crop, or a gland mask to cut round."
        if not label.any():
            text = f"{name}: expected the lesions within the crop, found all of their {whole} voxels outside."
            raise GeometryError(text, fix=fix, code="lesion-cropped")
        if outside:
            text = f"{name}: expected the lesions within the crop, found {outside} of their {whole} voxels outside."
            self.notice("lesion-cropped", text, fix=fix, where=name)

    def write(
        self, images: dict[str, NDArray[np.float32]], lesions: _Lesions | None, native: Grid, target: Grid
    ) -> ExamResult:
        folder = self.job.folder
        (folder / GRID_FILE).unlink(missing_ok=True)
        files: dict[str, NDArray[Any]] = dict(images)
        if lesions is not None:
            files["label"] = lesions.label
        for name, voxels in files.items():
            write_volume(folder / f"{name}.nii.gz", voxels, grid=target, place=None)
        result = ExamResult(
            findings=tuple(self.findings),
            label_values=None if lesions is None else lesions.values,
            significant=None if lesions is None else bool(lesions.label.any()),
        )
        content = {
            "medssl": provenance("import", **self.hashes),
            "format": _FORMAT,
            "options": _plain(self.job.options),
            "t2w_grid": {"shape": list(native.shape), "affine": native.affine.tolist()},
            "files": list(files),
            "label_values": None if lesions is None else list(lesions.values),
            "significant": result.significant,
            "findings": [finding.to_json() for finding in result.findings],
        }
        write_json(folder / GRID_FILE, content)
        return result
