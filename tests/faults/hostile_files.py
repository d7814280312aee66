"""Hostile tensors, configurations, JSON, paths and names; what they would run leaves a file called MARKER."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

MARKER = "MARKER"

# A case id cannot hold a slash, so it cannot close a script; a label name can
HOSTILE_ID = "<img src=x onerror=alert(1)>"
HOSTILE_NAME = "</script><script>alert('$x$')</script>"


class _RunsCode:
    """Pickles as a call that makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.open, (str(self.marker), os.O_CREAT)


def tensor_faults(marker: Path) -> dict[str, Callable[[Path], object]]:
    """Return writers of hostile .pt files by the name of the fault; each takes the path, which must hold a sound file.

    Args:
        marker: File that exists once code of such a file has run.
    """
    return {
        "pickle that runs code": lambda path: path.write_bytes(pickle.dumps({"w": _RunsCode(marker)})),
        "torch file that runs code": lambda path: torch.save({"w": torch.zeros(2), "x": _RunsCode(marker)}, path),
        "torch file with .. in its names": lambda path: _climbing_zip(path, marker),
        "truncated tensors": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "tensors with flipped bytes": _flip_pickle,
        "text instead of tensors": lambda path: path.write_text("no tensors\n" * 50, encoding="utf-8"),
        "empty tensor file": lambda path: path.write_bytes(b""),
        "folder instead of tensors": lambda path: (path.unlink(), path.mkdir()),
        "numbers instead of tensors": lambda path: torch.save({"w": 3.0}, path),
        "list instead of a state": lambda path: torch.save([torch.zeros(2)], path),
    }


def _climbing_zip(path: Path, marker: Path) -> None:
    """Keep the members of a torch file and add one whose name climbs out of any folder it is unpacked in."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    inner = next(iter(members)).split("/")[0]
    climbing = "/".join([inner, *[".."] * 30]) + str(marker)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("data.pkl", "../data.pkl"), content)
        archive.writestr(climbing, b"out")


def _flip_pickle(path: Path) -> None:
    """Turn over the bytes of the pickle that describes the tensors."""
    content = bytearray(path.read_bytes())
    start = content.find(b"data.pkl") + 80
    content[start : start + 40] = bytes(byte ^ 0xFF for byte in content[start : start + 40])
    path.write_bytes(bytes(content))


def config_faults(marker: Path) -> dict[str, Callable[[Path], object]]:
    """Return what puts code into a bundle by the name of the fault; each takes the bundle's folder.

    Args:
        marker: File that exists once the code has run.
    """
    touch = f"touch {marker}"
    call = f"$__import__('os').system('{touch}')"
    return {
        "config that imports": lambda bundle: _edit(bundle, {"extra": call}),
        "config whose target is os.system": lambda bundle: _edit(
            bundle, {"network_def": {"_target_": "os.system", "command": touch}}
        ),
        "import line in the config": lambda bundle: _edit(bundle, {"imports": ["$import os", call]}),
        "code in metadata.json": lambda bundle: _edit(bundle, {"description": call}, names=("metadata",)),
        "code in logging.conf": lambda bundle: (bundle / "configs" / "logging.conf").write_text(
            f"[handlers]\nkeys=x\n[handler_x]\nclass=StreamHandler\nargs=(__import__('os').system('{touch}'),)\n",
            encoding="utf-8",
        ),
        "Python module in the bundle": lambda bundle: (bundle / "itk.py").write_text(
            f"open({str(marker)!r}, 'w')\n", encoding="utf-8"
        ),
        "macro that leaves the bundle": lambda bundle: _edit(bundle, {"extra": "%../../../secret.json"}),
    }


def _edit(bundle: Path, changes: dict[str, Any], *, names: tuple[str, ...] = ("inference", "train")) -> None:
    for name in names:
        path = bundle / "configs" / f"{name}.json"
        if path.is_file():
            path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def json_faults() -> dict[str, Callable[[Path], object]]:
    """Return writers of broken JSON files by the name of the fault; each takes the path of a sound file."""
    return {
        "truncated JSON": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
        "JSON of 100,000 brackets": lambda path: path.write_text('{"a": ' + "[" * 100_000, encoding="utf-8"),
        "JSON number of 5,000 digits": lambda path: path.write_text('{"a": ' + "9" * 5000 + "}", encoding="utf-8"),
        "JSON that is no UTF-8": lambda path: path.write_bytes(b'{"name": "\xff\xfe"}'),
        "JSON list": lambda path: path.write_text("[1, 2]", encoding="utf-8"),
        "JSON of other kinds": lambda path: path.write_text(
            '{"cases": 3, "labels": 4, "modality": 5}', encoding="utf-8"
        ),
    }


def path_faults() -> dict[str, str]:
    """Return image paths of a manifest that leave the data root, by the name of the fault."""
    return {
        "path with ..": "../secret.nii.gz",
        "path that climbs from inside": "folder/../../secret.nii.gz",
        "absolute path": "/etc/passwd",
    }
