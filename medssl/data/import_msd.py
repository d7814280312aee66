"""Import a folder of the Medical Segmentation Decathlon, or of nnU-Net, which grew from it."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medssl.core.errors import ConfigError
from medssl.core.findings import Finding
from medssl.data.import_cases import CaseEntry, Imported, ImportOptions, build_manifest, relative_path, visible_files
from medssl.data.volumes import SUFFIXES

_CHANNEL = re.compile(r"_(\d{4})$")


def import_msd(source: Path, options: ImportOptions) -> Imported:
    """Make a manifest from imagesTr, labelsTr, imagesTs, labelsTs and, if it is there, dataset.json.

    Images of imagesTr without a label become `unlabeled`. Images of imagesTs become `test`; those that
    have no label become `unlabeled` if the options say so.

    Args:
        source: Folder with imagesTr.
        options: What the user says about the data.

    Raises:
        ConfigError: If imagesTr is missing or empty, or dataset.json cannot be used.
    """
    if not (source / "imagesTr").is_dir():
        message = f"{source}: expected a folder imagesTr, found none. Name the folder above it, or another --format."
        raise ConfigError(message)
    findings: list[Finding] = []
    described, channels = _read_description(source)
    parts: dict[str, list[CaseEntry]] = {"training": [], "unlabeled": [], "test": []}
    for suffix, labelled in (("Tr", "training"), ("Ts", "test")):
        unlabelled = "unlabeled" if suffix == "Tr" or options.test_as_unlabeled else "test"
        for case in _read_cases(source, suffix=suffix, channels=channels, root=options.root, findings=findings):
            parts[labelled if "label" in case else unlabelled].append(case)
    return build_manifest(
        parts, options=options, described={"name": source.resolve().name} | described, findings=findings
    )


def _read_cases(
    source: Path, *, suffix: str, channels: int | None, root: Path, findings: list[Finding]
) -> list[CaseEntry]:
    images = visible_files(source / f"images{suffix}", SUFFIXES, findings)
    labels = {stem(path): path for path in visible_files(source / f"labels{suffix}", SUFFIXES, findings)}
    groups = _group_channels(images, set(labels), several=channels is not None)
    for name in sorted(labels.keys() - groups.keys()):
        text = f"labels{suffix}/{labels[name].name} has no image in images{suffix}."
        findings.append(Finding(code="label-orphan", severity="warning", text=text, fix="Add the image, or delete it."))
    cases = []
    for name, files in groups.items():
        case: CaseEntry = {"id": name, "image": [relative_path(path, root) for path in files]}
        if name in labels:
            case["label"] = relative_path(labels[name], root)
        cases.append(case)
    return cases


def stem(path: Path) -> str:
    """Return a file name without the suffix of its image format."""
    suffix = next(suffix for suffix in sorted(SUFFIXES, key=len, reverse=True) if path.name.lower().endswith(suffix))
    return path.name[: -len(suffix)]


def _group_channels(images: Iterable[Path], labels: set[str], *, several: bool) -> dict[str, list[Path]]:
    """Join files such as case_0000 and case_0001 into one case, where they are channels and not cases."""
    by_base: dict[str, list[Path]] = defaultdict(list)
    files = list(images)
    for path in files:
        by_base[_CHANNEL.sub("", stem(path))].append(path)
    numbered = all(_CHANNEL.search(stem(path)) for path in files)
    first_only = all(stem(group[0]).endswith("_0000") for group in by_base.values())
    # A set of scans may be numbered with four digits too; then labels, if any, carry the number.
    are_channels = numbered and first_only and (several or bool(labels & by_base.keys()) or len(by_base) > 1)
    if are_channels and not labels & {stem(path) for path in files}:
        return dict(by_base)
    return {stem(path): [path] for path in files}


def _read_description(source: Path) -> tuple[dict[str, Any], int | None]:
    """Read dataset.json; return the manifest fields it gives, and nnU-Net's number of channels or None."""
    file = source / "dataset.json"
    if not file.is_file():
        return {}, None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        message = f"{file.name}: expected JSON, found something unreadable ({error}). Repair it, or move it away."
        raise ConfigError(message) from error
    if not isinstance(content, dict):
        message = f"{file.name}: expected a JSON object, found a {type(content).__name__}. Repair it, or move it away."
        raise ConfigError(message)
    channels = content.get("channel_names", content.get("modality"))
    described = {
        "name": content.get("name"),
        "description": content.get("description"),
        "licence": content.get("licence") or content.get("license"),
        "modality": ", ".join(map(str, channels.values())) if isinstance(channels, dict) else channels,
        "labels": _labels(content.get("labels")),
    }
    found = {key: value for key, value in described.items() if value}
    return found, len(content["channel_names"]) if isinstance(content.get("channel_names"), dict) else None


def _labels(labels: Any) -> dict[str, str] | None:
    """Bring {"1": "liver"} (Decathlon) and {"liver": 1} (nnU-Net) into the first form."""
    if not isinstance(labels, dict) or not labels:
        return None
    if all(str(key).isdigit() for key in labels):
        return {str(int(key)): str(name) for key, name in labels.items()}
    if all(isinstance(value, int) for value in labels.values()):
        return {str(value): str(name) for name, value in labels.items()}
    message = (
        f'dataset.json: expected labels such as {{"1": "liver"}} or {{"liver": 1}}, found {labels}. '
        "Regions of several values are not supported: list each value by itself, or give --labels."
    )
    raise ConfigError(message)
