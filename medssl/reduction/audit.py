"""The audit of a reduction: one line for every item, what became of it and why, and the way back.

The file is JSON lines: a header, then one line for each item in manifest order. The kept slices of a reduced manifest
are the lines with `"kept": true`; `slice` counts from 0 at the inferior end of the axial slices (`axial_slices`).
Nothing is deleted or copied.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from medssl.core.errors import ManifestError
from medssl.core.files import inside_root, sha256_file, write_text
from medssl.data.manifest import Case, Manifest, Part, Reduction, save_manifest

Reason = Literal[
    "exemplar", "near_duplicate", "not_in_stride", "over_budget", "empty_slice", "unreadable", "protected", "restored"
]
Place = tuple[str, int]
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """What became of one item.

    Attributes:
        case: Id of its case.
        part: Part of the manifest.
        slice: Number of the axial slice from the inferior end; 0 for a 2D image or a whole volume.
        z_mm: Height of the slice in scanner coordinates, or None.
        hash: 16 hexadecimal digits, or None where other descriptors were compared.
        kept: Whether it stays.
        reason: Why.
        removed_by: (case, slice) of the kept item that removed it.
        removed_distance: How far that is: bits, or one minus the similarity.
        nearest: (case, slice) of the nearest kept item of its group.
        nearest_distance: How far that is.
        source_sha256: Hash of the file, or None where it could not be read.
        note: Why a restored item came back.
    """

    case: str
    part: Part
    slice: int
    z_mm: float | None = None
    hash: str | None = None
    kept: bool
    reason: Reason
    removed_by: Place | None = None
    removed_distance: float | None = None
    nearest: Place | None = None
    nearest_distance: float | None = None
    source_sha256: str | None = None
    note: str | None = None

    @property
    def place(self) -> Place:
        """Which item this is."""
        return self.case, self.slice


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The whole file.

    Attributes:
        settings: How was decided; see `medssl.reduction.reduce.Settings`.
        input_sha256: Hash of the manifest before any reduction.
        rows: All items.
        removed_cases: Cases without a kept item: {"part", "index", "case"} as they stood in the manifest.
        history: Settings of earlier reductions by other settings.
        versions: Packages that decide a result.
    """

    settings: dict[str, Any]
    input_sha256: str
    rows: tuple[Row, ...]
    removed_cases: tuple[dict[str, Any], ...] = ()
    history: tuple[dict[str, Any], ...] = ()
    versions: dict[str, str]

    def counts(self) -> dict[str, Any]:
        """Count items in all, kept, by reason and by case."""
        by_case: dict[str, dict[str, int]] = {}
        for row in self.rows:
            case = by_case.setdefault(row.case, {"items": 0, "kept": 0})
            case["items"] += row.reason != "unreadable"
            case["kept"] += row.kept
        reasons = Counter(row.reason for row in self.rows)
        kept = sum(row.kept for row in self.rows)
        return {"items": len(self.rows), "kept": kept, "reasons": dict(sorted(reasons.items())), "cases": by_case}


def write_audit(path: Path, audit: Audit) -> None:
    """Write the audit, whole or not at all; the same audit gives the same bytes."""
    header = {key: value for key, value in _shallow(audit).items() if key != "rows"}
    lines = [{"schema": SCHEMA, **header, "counts": audit.counts()}, *(_without_none(row) for row in audit.rows)]
    write_text(path, "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines))


def read_audit(manifest: Manifest, folder: Path) -> Audit:
    """Read the audit that a reduced manifest names.

    Args:
        manifest: With the field `reduction`.
        folder: Where the manifest lies.

    Raises:
        ManifestError: If the manifest was not reduced, or its audit is missing, changed or unreadable.
    """
    if manifest.reduction is None:
        message = (
            f"manifest {manifest.name!r}: expected a reduced one, found no reduction in it. Name the reduced file."
        )
        raise ManifestError(message)
    path = inside_root(folder, manifest.reduction.file)
    new = _unsettled(path)
    if new.is_file() and sha256_file(new) == manifest.reduction.sha256:
        path = new  # whoever wrote it was killed before it got its name
    if not path.is_file():
        message = f"{path}: expected the audit of the reduction, found none. Copy it beside the manifest."
        raise ManifestError(message)
    if sha256_file(path) != manifest.reduction.sha256:
        message = f"{path}: expected the audit that the manifest names, found another (its hash differs). Reduce again."
        raise ManifestError(message)
    header, *lines = _lines(path)
    content = json.loads(header)
    if content.pop("schema") != SCHEMA:
        message = f"{path}: expected an audit of schema {SCHEMA}, found another. Use the medssl that wrote it."
        raise ManifestError(message)
    content.pop("counts")
    for field in ("removed_cases", "history"):
        content[field] = tuple(content[field])
    return Audit(**content, rows=tuple(_row(json.loads(line)) for line in lines))


def kept_slices(audit: Audit) -> dict[str, list[int]]:
    """Return the kept axial slices, in ascending order, of each case that a reduction of slices looked at."""
    kept: dict[str, list[int]] = {}
    for row in audit.rows if audit.settings.get("unit") == "slice" else ():
        numbers = kept.setdefault(row.case, [])
        if row.kept:
            numbers.append(row.slice)
    return kept


def without_empty_cases(manifest: Manifest, rows: Iterable[Row]) -> tuple[Manifest, tuple[dict[str, Any], ...]]:
    """Take the cases of which no item is kept out of a manifest; return it and what was taken out."""
    rows = list(rows)
    gone = {row.case for row in rows} - {row.case for row in rows if row.kept}
    removed: list[dict[str, Any]] = []
    left: dict[str, tuple[Case, ...]] = {}
    for part in {row.part: None for row in rows}:
        cases = manifest.part(part)
        left[part] = tuple(case for case in cases if case.id not in gone)
        removed += [
            {"part": part, "index": index, "case": case.model_dump(by_alias=True, exclude_none=True, mode="json")}
            for index, case in enumerate(cases)
            if case.id in gone
        ]
    return manifest.model_copy(update=left), tuple(removed)


def save_reduced(path: Path, manifest: Manifest, audit: Audit) -> Manifest:
    """Write the audit and then the manifest that names it.

    Args:
        path: Manifest to write; the audit lies beside it as NAME.reduction.jsonl.
        manifest: The manifest before any reduction.
        audit: What was decided.

    Returns:
        The manifest that was written.
    """
    left, removed = without_empty_cases(manifest, audit.rows)
    file = path.with_name(f"{path.stem}.reduction.jsonl")
    new = _unsettled(file)  # an audit that an older manifest of this name asks for stays until that one is replaced
    write_audit(new, replace(audit, removed_cases=removed))
    reduced = left.model_copy(update={"reduction": Reduction(file=file.name, sha256=sha256_file(new))})
    save_manifest(path, reduced)
    new.replace(file)
    return reduced


def _unsettled(file: Path) -> Path:
    return file.with_name(f"{file.name}.new")


def restore(manifest: Manifest, audit: Audit) -> Manifest:
    """Return the manifest as it was before any reduction.

    Raises:
        ManifestError: If the manifest was changed since.
    """
    parts: dict[str, list[Case]] = {}
    for removed in audit.removed_cases:  # in ascending order, so that each finds its old place
        cases = parts.setdefault(removed["part"], list(manifest.part(removed["part"])))
        cases.insert(removed["index"], Case.model_validate(removed["case"]))
    update: dict[str, Any] = {part: tuple(cases) for part, cases in parts.items()}
    restored = manifest.model_copy(update={**update, "reduction": None})
    if restored.sha256() != audit.input_sha256:
        message = f"manifest {manifest.name!r}: expected it as the reduction left it, found it changed since."
        raise ManifestError(message, fix="Take the manifest that was reduced; it was not touched.")
    return restored


def undo(audit: Audit, entries: Sequence[dict[str, Any]]) -> Audit:
    """Bring single items back; they remove nothing.

    Args:
        audit: Of the reduction.
        entries: {"case", "slice", "reason", and if wanted "author" and "date"}; without "slice" all of the case.

    Raises:
        ManifestError: If an entry names no item, or gives no reason.
    """
    notes: dict[tuple[str, int | None], str] = {}
    known = {row.place for row in audit.rows} | {(row.case, None) for row in audit.rows}
    for entry in entries:
        place = (entry.get("case"), entry.get("slice"))
        named = isinstance(place[0], str) and isinstance(place[1], int | None)
        if not named or place not in known or not entry.get("reason"):
            message = f"undo list: expected a case and slice of the audit and a reason, found {json.dumps(entry)}."
            raise ManifestError(message, fix='Write lines such as {"case": "a", "slice": 12, "reason": "a lesion"}.')
        signed = (entry["reason"], entry.get("author"), entry.get("date"))
        notes[place] = "; ".join(str(word) for word in signed if word)
    rows = []
    for row in audit.rows:
        note = notes.get(row.place, notes.get((row.case, None)))
        dropped = note is not None and not row.kept and row.reason != "unreadable"
        rows.append(replace(row, kept=True, reason="restored", note=note) if dropped else row)
    return replace(audit, rows=tuple(rows))


def read_undo(path: Path) -> list[dict[str, Any]]:
    """Read a list of items to bring back, one JSON object a line; see `undo`.

    Raises:
        ManifestError: If the file is missing, or a line is no JSON object.
    """
    try:
        entries = [json.loads(line) for line in _lines(path)]
    except (OSError, ValueError) as error:
        message = f"{path}: expected JSON lines of items to bring back, found something unreadable ({error})."
        raise ManifestError(message, fix="Check the file.") from error
    if not all(isinstance(entry, dict) for entry in entries):
        raise ManifestError(f"{path}: expected one JSON object in each line, found something else.")
    return entries


def _lines(path: Path) -> list[str]:
    """Return the lines that hold something; str.splitlines would also break at separators inside of JSON strings."""
    return [line for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


def _row(content: dict[str, Any]) -> Row:
    places: dict[str, Any] = {key: tuple(content[key]) for key in ("removed_by", "nearest") if key in content}
    return Row(**{**content, **places})


def _shallow(item: Any) -> dict[str, Any]:
    return {each.name: getattr(item, each.name) for each in fields(item)}


def _without_none(row: Row) -> dict[str, Any]:
    return {key: value for key, value in asdict(row).items() if value is not None}
