"""A disk that fills: a small memory disk where root may mount one, and a stand-in everywhere else."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import torch

FILLER = "filler"


class NoSmallDiskError(Exception):
    """This user cannot mount a disk here."""


@contextmanager
def small_disk(folder: Path, *, kib: int = 8192) -> Iterator[Path]:
    """Mount a memory disk of `kib` at `folder` for a while.

    Raises:
        NoSmallDiskError: If that is not possible here.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    if not mounted:
        raise NoSmallDiskError(" ".join(command))
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


def fill(folder: Path, *, leave: int = 0) -> Path:
    """Fill the disk of `folder` with one file, but for `leave` bytes; return the file, to be removed again."""
    with (folder / FILLER).open("wb", buffering=0) as stream:
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        try:
            stream.write(bytes(max(0, free - leave)))
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise
    return folder / FILLER


def no_room(*_: Any, **__: Any) -> None:
    """Stand in for a call that meets a full disk."""
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def half_files(folder: Path) -> list[str]:
    """Name the files below `folder` that do not hold what their suffix says, and temporary ones."""
    readers = {".json": _read_json, ".pt": _read_tensors, ".gz": _read_volume, ".html": _read_page}
    found = []
    for path in sorted(folder.rglob("*")):
        try:
            if path.is_file():
                readers.get(path.suffix, _any)(path)
        except Exception:  # whatever is wrong with it
            found.append(path.name)
        found += [path.name] * path.name.startswith(".tmp-")
    return found


def _read_json(path: Path) -> None:
    json.loads(path.read_text(encoding="utf-8"))


def _read_tensors(path: Path) -> None:
    torch.load(path, weights_only=True)


def _read_volume(path: Path) -> None:
    np.asanyarray(nib.load(path).dataobj)


def _read_page(path: Path) -> None:
    if not path.read_text(encoding="utf-8").rstrip().endswith("</html>"):
        raise ValueError(path)


def _any(path: Path) -> None:
    pass
