"""Make a manifest from what is on disk. Each format is one function in `FORMATS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from medssl.core.errors import ConfigError
from medssl.core.suggest import did_you_mean
from medssl.data.import_cases import Imported, ImportOptions, Labels
from medssl.data.import_csv import import_csv
from medssl.data.import_msd import import_msd

Importer = Callable[[Path, ImportOptions], Imported]

FORMATS: dict[str, Importer] = {"csv": import_csv, "msd": import_msd}


def import_data(source: Path, options: ImportOptions, *, layout: str = "auto") -> Imported:
    """Make a manifest from a folder or a table.

    Args:
        source: Folder or file.
        options: What the user says about it.
        layout: A key of `FORMATS`, or "auto" to look at the source.

    Raises:
        ConfigError: If the source is of no known format or says something impossible.
    """
    source = Path(source)
    if not source.exists():
        message = f"{source}: expected a folder or a CSV file, found nothing. Correct the path."
        raise ConfigError(message)
    if layout == "auto":
        layout = _recognise(source)
    if layout not in FORMATS:
        message = f'unknown format "{layout}".{did_you_mean(layout, FORMATS)} Known: auto, {", ".join(FORMATS)}.'
        raise ConfigError(message)
    return FORMATS[layout](source, options)


def parse_labels(text: str) -> Labels:
    """Read "0=background,1=anterior" into a mapping; a missing background is added.

    Raises:
        ConfigError: If an entry has no "=", or a value is no whole number or comes twice.
    """
    labels: Labels = {}
    for entry in text.split(","):
        value, separator, name = (part.strip() for part in entry.partition("="))
        if (
            not separator
            or not (value.isascii() and value.isdigit() and len(value) < 6)
            or not name
            or str(int(value)) in labels
        ):
            message = f'--labels: expected "VALUE=name,VALUE=name" with each value once, found {entry!r} in {text!r}.'
            raise ConfigError(f"{message} Write for example: --labels 0=background,1=liver")
        labels[str(int(value))] = name
    return dict(sorted(({"0": "background"} | labels).items(), key=lambda item: int(item[0])))


def _recognise(source: Path) -> str:
    if source.is_dir() and (source / "imagesTr").is_dir():
        return "msd"
    if source.is_file() and source.suffix.lower() == ".csv":
        return "csv"
    message = (
        f"{source}: expected a folder with imagesTr (Medical Segmentation Decathlon) or a .csv file, found neither. "
        f"Name the format with --format; known: {', '.join(FORMATS)}."
    )
    raise ConfigError(message)
