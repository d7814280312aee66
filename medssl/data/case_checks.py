"""Look at one case: can its files be read, do they fit together, and do their voxels make sense?

Codes beside those of `medssl.data.volumes`: manifest, link-outside, sha256, channel-shape, channel-affine,
image-constant, label-missing, label-ignored, label-shape, label-affine, label-float, label-not-integer,
label-value, label-empty, class-missing, class-unknown, unexpected.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from medssl.core.errors import GeometryError, ImageError
from medssl.core.files import inside_root, sha256_file
from medssl.core.findings import Finding, Severity, finding_from
from medssl.data.images import is_image_file, read_image
from medssl.data.manifest import Case, Part
from medssl.data.volume_checks import size_of_regular_file
from medssl.data.volumes import Header, Volume, read_header, read_volume
from medssl.data.voxel_hash import VoxelDigests, voxel_digests

# Corners of the two grids may lie this share of the smallest voxel edge apart. Converters round: an oblique prostate
# label of 384 x 384 x 19 voxels lies 11% of an edge off its image, and nothing moves by a voxel below 50%.
_CORNER_TOLERANCE = 0.25
_LISTED_VALUES = 5


@dataclass(frozen=True, kw_only=True)
class CaseTask:
    """What is needed to look at one case in another process."""

    root: Path
    part: Part
    case: Case
    labels: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class CaseReport:
    """What was seen in one case.

    Attributes:
        findings: What is wrong or worth knowing.
        digests: Hashes of each channel, or None if a channel is unreadable or constant.
        orientation: Where the voxel axes of the first channel point, or None if its header is unreadable.
        label_values: Values of the label map, or None if there is none to read.
    """

    findings: list[Finding] = field(default_factory=list)
    digests: tuple[VoxelDigests, ...] | None = None
    orientation: str | None = None
    label_values: frozenset[int] | None = None


def examine_case(task: CaseTask) -> CaseReport:
    """Read all files of one case and report what is wrong; no fault hides another, none is raised.

    Memory: one volume at a time, about 1 s for a CT of 512 x 512 x 100.
    """
    return _Examination(task).run()


def require_same_grid(reference: Header, other: Header, what: str) -> None:
    """Refuse a file that does not lie on the grid of the reference.

    Args:
        reference: Header of the image.
        other: Header that must have the same shape and affine.
        what: "label" or "channel": the first part of the error's code.

    Raises:
        GeometryError: If shapes differ, or corners of the grids lie more than a quarter of a voxel edge apart.
    """
    fix = f"Export the {what} again on the grid of the image, or take the case out."
    expected_in = f"expected the grid of {reference.path.name}"
    if reference.shape != other.shape:
        text = f"{other.path.name}: {expected_in}, {_grid(reference)}, found {_grid(other)}."
        raise GeometryError(text, fix=fix, code=f"{what}-shape")
    distance = _corner_distance_mm(reference, other)
    if distance > _CORNER_TOLERANCE * min(reference.spacing_mm):
        axes = f"{reference.orientation} and {other.orientation}"
        text = f"{other.path.name}: {expected_in}, found corners up to {distance:.3g} mm away (orientations {axes})."
        raise GeometryError(text, fix=fix, code=f"{what}-affine")


def _grid(header: Header) -> str:
    spacing = " x ".join(f"{value:.3g}" for value in header.spacing_mm)
    return f"{header.shape} at {spacing} mm"


def _corner_distance_mm(reference: Header, other: Header) -> float:
    corners = np.array([(*corner, 1) for corner in itertools.product(*((0, size - 1) for size in reference.shape))])
    difference = corners @ (reference.affine - other.affine).T
    return float(np.linalg.norm(difference[:, :3], axis=1).max())


class _Examination:
    """Collects the findings of one case while its files are read one after the other."""

    def __init__(self, task: CaseTask) -> None:
        self.task = task
        self.findings: list[Finding] = []

    def run(self) -> CaseReport:
        case = self.task.case
        if is_image_file(case.image[0]):
            return self.run_image()
        headers = [self.guard(path, self.header, path) for path in case.image]
        self.compare_channels(headers)
        self.guard(case.image[0], self.compare_sha256)
        digests = [
            self.guard(path, self.image, path) if header is not None else None
            for path, header in zip(case.image, headers, strict=True)
        ]
        return CaseReport(
            digests=None if None in digests else tuple(digest for digest in digests if digest is not None),
            orientation=None if headers[0] is None else headers[0].orientation,
            label_values=self.label(headers[0]),
            findings=self.findings,
        )

    def run_image(self) -> CaseReport:
        """Look at a 2D image, which has no geometry and is learnt from by its class."""
        case, relative = self.task.case, self.task.case.image[0]
        self.guard(relative, self.compare_sha256)
        digest = self.guard(relative, self.flat_image, relative)
        if case.class_ is None and self.task.part != "unlabeled":
            text = f"expected a class for this {self.task.part} image, found none."
            fix = 'Give the case a "class" of the manifest\'s labels, or move it to unlabeled.'
            self.add("class-missing", text, fix=fix, where=relative)
        return CaseReport(digests=None if digest is None else (digest,), findings=self.findings)

    def add(self, code: str, text: str, *, fix: str, where: str, severity: Severity = "error") -> None:
        case = self.task.case.id
        self.findings.append(Finding(code=code, severity=severity, text=text, fix=fix, case=case, where=where))

    def guard(self, where: str, action: Callable[..., Any], *arguments: Any) -> Any:
        """Run `action`; turn its exception into a finding and return None."""
        try:
            return action(*arguments)
        except Exception as error:  # one broken file must not hide the next
            self.findings.append(finding_from(error, case=self.task.case.id, where=where))
            return None

    def locate(self, relative: str) -> Path:
        root = self.task.root
        path = inside_root(root, relative)
        # realpath, because resolve raises on a loop of links, which read_header reports
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root)):
            text = f"{path.name}: lies outside the data root; the path passes through a link."
            fix = "Nothing, if that is intended; a copy of the data root alone will lack this file."
            self.add("link-outside", text, fix=fix, where=relative, severity="info")
        return path

    def header(self, relative: str) -> Header:
        return read_header(self.locate(relative))

    def compare_channels(self, headers: list[Header | None]) -> None:
        readable = [header for header in headers if header is not None]
        for other in readable[1:]:
            where = self.task.case.image[headers.index(other)]
            self.guard(where, require_same_grid, readable[0], other, "channel")

    def compare_sha256(self) -> None:
        case = self.task.case
        path = inside_root(self.task.root, case.image[0])
        if case.sha256 is None or not (os.path.isfile(path) and os.access(path, os.R_OK)):  # noqa: PTH113  (never raises)
            return
        found = sha256_file(path)
        if found != case.sha256:
            text = f"{path.name}: expected SHA-256 {case.sha256[:12]}…, found {found[:12]}…: the file has changed."
            self.add("sha256", text, fix="Bring the original back, or import again.", where=case.image[0])

    def image(self, relative: str) -> VoxelDigests | None:
        volume = read_volume(inside_root(self.task.root, relative))
        # Along the patient's axes, so that a copy stored with its axes in another order is found too
        axes = nib.io_orientation(volume.header.affine)[:, 0].argsort()
        return self.digests(volume.header.path, volume.voxels.transpose(axes), relative)

    def flat_image(self, relative: str) -> VoxelDigests | None:
        path = self.locate(relative)
        size_of_regular_file(path)
        pixels = read_image(path)
        return self.digests(path, pixels[:, :, None], relative)

    def digests(self, path: Path, voxels: Any, relative: str) -> VoxelDigests | None:
        lowest, highest = voxels.min(), voxels.max()
        if lowest == highest:
            text = f"{path.name}: expected an image with contrast, found {lowest:g} in every voxel."
            self.add("image-constant", text, fix="Export the image again, or take the case out.", where=relative)
            return None
        return voxel_digests(voxels)

    def label(self, image: Header | None) -> frozenset[int] | None:
        case, part = self.task.case, self.task.part
        if case.label is None:
            self.label_missing()
            return None
        relative = case.label
        if part == "unlabeled":
            text = "this unlabelled case names a label, which is never read."
            self.add("label-ignored", text, fix="Move it to training to use it.", where=relative, severity="info")
            return None
        header: Header | None = self.guard(relative, self.header, relative)
        if header is None:
            return None
        if image is not None:
            self.guard(relative, require_same_grid, image, header, "label")
        values: frozenset[int] | None = self.guard(relative, self.label_values, header, relative)
        return values

    def label_missing(self) -> None:
        case, part = self.task.case, self.task.part
        if part == "unlabeled" or case.class_ is not None:
            return
        text = f"expected a label for this {part} case, found none."
        fix = "Add its label" + (
            "; without one it cannot be scored." if part == "test" else ", or move it to unlabeled."
        )
        severity: Severity = "warning" if part == "test" else "error"
        self.add("label-missing", text, fix=fix, where=case.image[0], severity=severity)

    def label_values(self, header: Header, relative: str) -> frozenset[int]:
        volume = read_volume(header.path)
        if volume.voxels.dtype.kind == "f":
            text = (
                f"{header.path.name}: the label is stored as {volume.voxels.dtype}; whole values are read as integers."
            )
            self.add("label-float", text, fix="Nothing needs to be done.", where=relative, severity="info")
        values = frozenset(count_label_values(volume))
        self.judge_values(values, header.path.name, relative)
        return values

    def judge_values(self, values: frozenset[int], name: str, relative: str) -> None:
        labels = self.task.labels
        unknown = sorted(value for value in values if str(value) not in labels)
        if unknown:
            known = ", ".join(f"{value} {label}" for value, label in labels.items())
            text = f"{name}: expected the label values {known}; found also {_listed(unknown)}."
            self.add("label-value", text, fix="Add them to the manifest's labels, or remap them.", where=relative)
        elif not values - {0} and self.task.case.class_ != 0:  # class 0 says that nothing is to be seen
            text = f"{name}: expected at least one structure, found only background."
            fix = "Nothing, if the structures are absent; otherwise export the label again."
            self.add("label-empty", text, fix=fix, where=relative, severity="warning")


def count_label_values(volume: Volume) -> Counter[int]:
    """Count the voxels of each value of a label map; floats are accepted if they are whole.

    Raises:
        ImageError: If a value is no whole number.
    """
    counts: Counter[float] = Counter()
    for k in range(volume.header.shape[2]):  # slice by slice: no sorted copy of the whole volume
        values, numbers = np.unique(volume.voxels[:, :, k], return_counts=True)
        counts.update(dict(zip(values.tolist(), numbers.tolist(), strict=True)))
    broken = sorted(value for value in counts if value != int(value))
    if broken:
        text = f"{volume.header.path.name}: expected whole numbers as label values, found {_listed(broken)}."
        fix = "Resample labels with nearest neighbours; export the label again."
        raise ImageError(text, fix=fix, code="label-not-integer")
    return Counter({int(value): counts[value] for value in sorted(counts)})


def _listed(values: list[Any]) -> str:
    shown = ", ".join(f"{value:g}" for value in values[:_LISTED_VALUES])
    return shown + (f" and {len(values) - _LISTED_VALUES} more" if len(values) > _LISTED_VALUES else "")
