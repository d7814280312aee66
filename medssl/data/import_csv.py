"""Import a table: one row a case."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medssl.core.errors import ConfigError
from medssl.core.suggest import did_you_mean
from medssl.data.import_cases import CaseEntry, Imported, ImportOptions, build_manifest, relative_path
from medssl.data.manifest import PARTS

_COLUMNS = ("id", "image", "label", "patient", "site", "class", "part", "fold")
_CHANNEL_COLUMN = re.compile(r"image_(\d+)$")
_NUMBER = re.compile(r"[0-9]{1,18}")


def import_csv(source: Path, options: ImportOptions) -> Imported:
    """Make a manifest from a CSV file (comma, semicolon or tab) with a heading row.

    Columns: id, image (or image_0, image_1, ... for channels), and optionally label, patient, site, class, part
    and fold. Paths start from the folder of the table. Without a part, cases with a label or a class are
    `training` and the others `unlabeled`.

    Args:
        source: The table, in UTF-8.
        options: What the user says about the data.

    Raises:
        ConfigError: If a column is unknown or missing, or rows are wrong; all of them are listed.
    """
    rows = list(_read_rows(source))
    problems: list[str] = []
    parts: dict[str, list[CaseEntry]] = {part: [] for part in PARTS}
    for number, row in rows:
        try:
            part, case = _case(row, source.parent, options.root)
            parts[part].append(case)
        except ConfigError as error:
            problems.append(f"  row {number}: {error}")
    if problems:
        message = f"{source.name}: {len(problems)} of {len(rows)} rows cannot be used:\n" + "\n".join(problems)
        raise ConfigError(message)
    return build_manifest(parts, options=options, described={"name": source.stem}, findings=[])


def _read_rows(source: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row) with empty cells left out."""
    try:
        text = source.read_text(encoding="utf-8-sig")  # spreadsheets put a mark in front
    except (OSError, UnicodeDecodeError) as error:
        message = f"{source.name}: expected a table in UTF-8, found something unreadable ({error}). Save it as UTF-8."
        raise ConfigError(message) from error
    heading = text.split("\n", 1)[0]
    # strict: a quote that is never closed would swallow the rows behind it
    lines = io.StringIO(text, newline="")
    reader = csv.DictReader(lines, delimiter=max(",;\t", key=heading.count), strict=True)
    _require_columns(source, [name.strip() for name in reader.fieldnames or ()])
    for row in _parsed(source, reader):
        if None in row:
            message = (
                f"{source.name}, row {reader.line_num}: expected {len(reader.fieldnames or ())} cells, found more."
            )
            raise ConfigError(f"{message} Put cells that hold the separator into quotes.")
        cells = {name.strip(): (value or "").strip() for name, value in row.items()}
        if any(cells.values()):
            yield reader.line_num, {name: value for name, value in cells.items() if value}


def _parsed(source: Path, reader: csv.DictReader[str]) -> Iterator[dict[str, Any]]:
    try:
        yield from reader
    except csv.Error as error:  # a quote that is not closed, a cell of 128 KiB
        message = f"{source.name}, row {reader.line_num}: expected cells that can be read, found: {error}."
        raise ConfigError(f"{message} Look for a quote that is not closed.") from error


def _require_columns(source: Path, found: list[str]) -> None:
    problems = [
        f'unknown column "{name}".{did_you_mean(name, (*_COLUMNS, "image_0", "image_1"))}'
        for name in found
        if name not in _COLUMNS and not _CHANNEL_COLUMN.match(name)
    ]
    if len(set(found)) != len(found):
        problems.append("a column comes twice.")
    if "id" not in found:
        problems.append('there is no column "id".')
    channels = [name for name in found if _CHANNEL_COLUMN.match(name)]
    if ("image" in found) == bool(channels):
        problems.append('expected either a column "image", or columns "image_0", "image_1", ...')
    if problems:
        message = f"{source.name}: {' '.join(problems)} Known: {', '.join(_COLUMNS)}, image_0, image_1, ..."
        raise ConfigError(message)


def _case(row: dict[str, str], folder: Path, root: Path) -> tuple[str, CaseEntry]:
    images = sorted((name for name in row if name.startswith("image")), key=_channel)
    if "id" not in row or not images:
        message = "expected an id and an image, found an empty cell. Fill it in, or delete the row."
        raise ConfigError(message)
    case: CaseEntry = {"id": row["id"], "image": [relative_path(folder / row[name], root) for name in images]}
    if "label" in row:
        case["label"] = relative_path(folder / row["label"], root)
    case |= {name: row[name] for name in ("patient", "site") if name in row}
    if "class" in row:
        case["class"] = int(row["class"]) if _NUMBER.fullmatch(row["class"]) else row["class"]
    if "fold" in row:
        if not _NUMBER.fullmatch(row["fold"]):
            message = f'fold: expected a whole number from 0, found "{row["fold"]}". Correct it.'
            raise ConfigError(message)
        case["fold"] = int(row["fold"])
    part = row.get("part", "training" if {"label", "class"} & row.keys() else "unlabeled")
    if part not in PARTS:
        message = f'part: expected one of {", ".join(PARTS)}, found "{part}".{did_you_mean(part, PARTS)}'
        raise ConfigError(message)
    return part, case


def _channel(name: str) -> int:
    match = _CHANNEL_COLUMN.match(name)
    return int(match.group(1)) if match else 0
