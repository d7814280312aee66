"""B01, B02, B11, B12: the files of a bundle, its name, its paths and its sizes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from medssl.bundle.checks.subject import Subject, finding
from medssl.bundle.config import walk
from medssl.bundle.expressions import is_expression, leading_literals
from medssl.core.findings import Finding

_ALWAYS = ("LICENSE", "configs/metadata.json", "configs/inference.json", "configs/logging.conf", "docs/README.md")
_TRAINABLE = ("evaluate", "multi_gpu_train", "multi_gpu_evaluate")
_HEADINGS = (
    "Authors", "Tags", "Description", "Data", "Preprocessing", "Performance", "Commands", "System configuration",
    "Limitations", "Citation", "References",
)  # fmt: skip
_SHORTEST_LICENCE = 500  # characters
_MODELS = frozenset({"model.pt", "model.ts", "model.onnx", "encoder.pt", "encoder.json"})
_LARGEST_FILE = 25 * 2**20  # bytes
_TRAPS = ("deepedit", "deepgrow", "detection", "classification")
_NAME = re.compile(r"[a-z0-9]+(_[a-z0-9]+)+")
_ABSOLUTE = re.compile(r"[/~\\]|[A-Za-z]:[/\\]")
_HOME = re.compile(r"(^|[^\w])(/home/|/root/|/Users/|[A-Za-z]:\\Users\\)")
_HOST = re.compile(r"\w+://|(\d{1,3}\.){3}\d{1,3}|\blocalhost\b")
_LARGE_LINE = re.compile(r"\s*(?P<first>-\s+)?(?P<key>path|url|hash_val|hash_type):\s*(?P<value>.*?)\s*")
_HASHES = ("md5", "sha1", "sha256", "sha512")
# What a run leaves beside the bundle it makes; it stays where it was made
_OF_THE_RUN = frozenset({"checkpoints", "results", "folds"})


def required_files(subject: Subject) -> Iterator[Finding]:
    """B01: required files under their exact names, readable JSON, a real licence and the headings of the zoo."""
    needed = list(_ALWAYS)
    if "train" in subject.configs or any(name in subject.configs for name in _TRAINABLE):
        needed += [f"configs/{name}.json" for name in ("train", *_TRAINABLE)]
    if "finetune" in subject.configs.get("train", {}):
        needed.append("configs/train_continual.json")
    for name in needed:
        if not _is_there(subject.folder, name):
            yield finding("B01", name, "this file is required and missing", "Add it under exactly this name.")
    for name, reason in subject.unreadable.items():
        yield finding("B01", name, reason, "Correct the JSON.")
    licence = subject.folder / "LICENSE"
    if licence.is_file() and len(_text(licence)) < _SHORTEST_LICENCE:
        yield finding("B01", "LICENSE", "this is a stub, not the text of a licence", "Write the licence out.")
    yield from _headings(subject)
    yield from _weights(subject)
    if not _is_there(subject.folder, "docs/data_license.txt"):
        text = "nothing says under which licence the data was used"
        yield finding("B01", "docs/data_license.txt", text, "Add the file, or say why none is due.", severity="warning")


def folder_name(subject: Subject) -> Iterator[Finding]:
    """B02: a folder name that every host reads as segmentation."""
    name = subject.folder.name
    if not _NAME.fullmatch(name):
        text = f"expected two or more lower-case words of a-z and 0-9 joined by '_', found {name!r}"
        yield finding("B02", name, text, "Rename the folder: data_modality_method.")
    for trap in _TRAPS:
        if trap in name:
            text = f"the name contains {trap!r}, by which MONAI Label would treat it as another task"
            yield finding("B02", name, text, "Rename the folder.")


def places(subject: Subject) -> Iterator[Finding]:
    """B11: no absolute path, home folder, host name or URL outside metadata and large_files."""
    for name, content in subject.configs.items():
        for item_id, value in walk(content):
            reason = _place(value, is_metadata=name == "metadata")
            if reason:
                where = f"{name}.json, {item_id}"
                yield finding("B11", where, f"{reason}: {value!r}", "Build the path from @bundle_root or @dataset_dir.")
    logging_file = subject.folder / "configs" / "logging.conf"
    if logging_file.is_file() and (_HOME.search(_text(logging_file)) or _HOST.search(_text(logging_file))):
        yield finding("B11", "logging.conf", "it names a home folder or a host", "Log to the console only.")


def sizes(subject: Subject) -> Iterator[Finding]:
    """B12: no file above 25 MB, nothing unexpected in models/, and large_files complete and true."""
    for path in sorted(path for path in subject.folder.rglob("*") if path.is_file()):
        name = path.relative_to(subject.folder).as_posix()
        if name.split("/")[0] in _OF_THE_RUN:
            continue
        if path.stat().st_size > _LARGEST_FILE and name not in _large_names(subject):
            text = f"{path.stat().st_size / 2**20:.1f} MB, at most 25 MB are allowed"
            yield finding("B12", name, text, "Host it elsewhere and list it in large_files.yml.")
        if name.startswith("models/") and name.removeprefix("models/") not in _MODELS and path.name != ".gitkeep":
            text = "MONAI Label would offer this file as a model; models/ holds released weights only"
            yield finding("B12", name, text, "Move it to checkpoints/ or remove it.")
    if (subject.folder / "models" / "encoder.pt").is_file() and not _is_there(subject.folder, "models/encoder.json"):
        yield finding("B12", "models/encoder.json", "nothing says what made encoder.pt", "Add its JSON.")
    for number, item in enumerate(_large_files(subject)):
        yield from _large_file(subject, number, item)


def _headings(subject: Subject) -> Iterator[Finding]:
    path = subject.folder / "docs" / "README.md"
    if not path.is_file():
        return
    present = {line.lstrip("#").strip().casefold() for line in _text(path).splitlines() if line.startswith("#")}
    missing = [heading for heading in _HEADINGS if heading.casefold() not in present]
    if missing:
        yield finding("B01", "docs/README.md", f"missing headings: {', '.join(missing)}", "Add these sections.")


def _weights(subject: Subject) -> Iterator[Finding]:
    name = "models/model.pt"
    withheld = subject.metadata.get("weights") == "not shipped"
    if _is_there(subject.folder, name) or name in _large_names(subject):
        if withheld:
            text = "the weights are here, and metadata says that they are not shipped"
            yield finding("B01", name, text, 'Remove "weights" from metadata.json.')
        return
    if withheld:
        text = "metadata says that the weights are not shipped"
        yield finding("B01", name, text, "Train the bundle before use.", severity="warning")
        return
    text = "the weights are required and missing"
    yield finding("B01", name, text, 'Add them, list them in large_files.yml, or set "weights": "not shipped".')


def _is_there(folder: Path, name: str) -> bool:
    """Tell whether a file exists under exactly this name, also where the file system ignores case."""
    path = folder / name
    return path.is_file() and path.name in {entry.name for entry in path.parent.iterdir()}


def _place(value: Any, *, is_metadata: bool) -> str | None:
    if not isinstance(value, str):
        return None
    if _HOME.search(value):
        return "a home folder"
    if is_metadata:
        return None
    if _HOST.search(value):
        return "a host name or URL"
    parts = leading_literals(value) if is_expression(value) else [value]
    return "an absolute path" if any(_ABSOLUTE.match(part) for part in parts) else None


def _large_names(subject: Subject) -> set[str]:
    return {item.get("path", "") for item in _large_files(subject)}


def _large_files(subject: Subject) -> list[dict[str, str]]:
    """Read large_files.yml: a list of flat items, for which no YAML package is needed."""
    path = subject.folder / "large_files.yml"
    items: list[dict[str, str]] = []
    for line in _text(path).splitlines() if path.is_file() else []:
        match = _LARGE_LINE.fullmatch(line)
        if match is None:
            continue
        if match["first"]:
            items.append({})
        if items:
            items[-1][match["key"]] = match["value"].strip("\"'")
    return items


def _large_file(subject: Subject, number: int, item: dict[str, str]) -> Iterator[Finding]:
    where = f"large_files.yml, {number}"
    missing = [key for key in ("path", "url", "hash_val", "hash_type") if not item.get(key)]
    if missing:
        yield finding("B12", where, f"missing: {', '.join(missing)}", "Complete the item.")
        return
    if item["hash_type"] not in _HASHES:
        yield finding("B12", where, f"unknown hash_type {item['hash_type']!r}", f"Use one of {', '.join(_HASHES)}.")
        return
    path = subject.folder / item["path"]
    if not path.resolve().is_relative_to(subject.folder.resolve()):
        yield finding("B12", where, f"the path {item['path']!r} leaves the bundle", "Correct the path.")
    elif path.is_file():
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, item["hash_type"]).hexdigest()
        if digest != item["hash_val"]:
            text = f"expected {item['hash_type']} {item['hash_val']}, found {digest}"
            yield finding("B12", where, text, "Fetch the file again, or correct the hash.")


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")
