"""Make a manifest from what is on disk. Each format is one function in `FORMATS`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast, get_args

from medssl.core.errors import ConfigError
from medssl.core.suggest import did_you_mean
from medssl.data.exam_import import ExamOptions, LabelValues
from medssl.data.exam_sequences import AdcScaling
from medssl.data.import_bpmri import import_bpmri
from medssl.data.import_cases import Imported, ImportOptions, Labels
from medssl.data.import_csv import import_csv
from medssl.data.import_msd import import_msd

Importer = Callable[[Path, ImportOptions], Imported]

FORMATS: dict[str, Importer] = {"bpmri": import_bpmri, "csv": import_csv, "msd": import_msd}

_LARGEST_CROP = 2**27  # 512 x 512 x 512: an exam of it needs gigabytes already


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


def exam_options(*, crop: str | None, adc_scaling: str, label_values: str) -> ExamOptions:
    """Read the options of prostate exams as the user writes them.

    Args:
        crop: Voxels along the three axes, such as "256,256,20", or None for the default.
        adc_scaling: "zscore" or "fixed".
        label_values: "isup" or "binary".

    Raises:
        ConfigError: If one cannot be read.
    """
    for option, value, known in (
        ("--adc-scaling", adc_scaling, get_args(AdcScaling)),
        ("--label-values", label_values, get_args(LabelValues)),
    ):
        if value not in known:
            message = f"{option}: expected {' or '.join(known)}, found {value!r}.{did_you_mean(value, known)}"
            raise ConfigError(message)
    options = ExamOptions(adc_scaling=cast(AdcScaling, adc_scaling), label_values=cast(LabelValues, label_values))
    return options if crop is None else replace(options, crop=_crop(crop))


def _crop(text: str) -> tuple[int, int, int]:
    sizes = [int(part) for part in text.split(",") if re.fullmatch(r"\s*[1-9][0-9]{0,3}\s*", part)]
    if len(sizes) != 3 or text.count(",") != 2:
        message = f"--crop: expected three numbers of voxels such as 256,256,20, found {text!r}. Correct it."
        raise ConfigError(message)
    if math.prod(sizes) > _LARGEST_CROP:
        message = f"--crop: expected at most {_LARGEST_CROP:,} voxels, found {text!r}. Make it smaller."
        raise ConfigError(message)
    return sizes[0], sizes[1], sizes[2]


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
