"""Hostile images: twelve broken files made from a small good one, and a way to read without root's rights."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel as nib
import numpy as np

# Byte positions in a NIfTI-1 header.
_DIM = 40
_PIXDIM = 76
_QFORM_CODE = 252
_SFORM_CODE = 254


def write_good_file(path: Path, *, shape: tuple[int, ...] = (12, 10, 8), seed: int = 0) -> Path:
    """Write a small sound NIfTI with random int16 voxels of 1.0 x 1.5 x 2.0 mm."""
    voxels = np.random.default_rng(seed).integers(0, 1000, size=shape).astype(np.int16)
    nib.save(nib.Nifti1Image(voxels, np.diag([1.0, 1.5, 2.0, 1.0])), path)
    return path


def make_broken_files(folder: Path) -> dict[str, Path]:
    """Write the twelve broken files into `folder`; return their paths by the name of the fault.

    Names: truncated, text, two_d, four_d, rgb, nan_voxels, zero_spacing, singular_affine, huge_header, empty,
    no_permission, dangling_link.
    """
    folder.mkdir(parents=True, exist_ok=True)
    good = write_good_file(folder / "good_source.nii.gz").read_bytes()
    makers: dict[str, Callable[[Path], object]] = {
        "truncated": lambda path: path.write_bytes(good[: len(good) // 2]),
        "text": lambda path: path.write_text("this is no image\n" * 50, encoding="utf-8"),
        "two_d": lambda path: write_good_file(path, shape=(12, 10)),
        "four_d": lambda path: write_good_file(path, shape=(6, 5, 4, 3)),
        "rgb": _write_rgb,
        "nan_voxels": _write_nan,
        "zero_spacing": lambda path: _patch(path, good, (_PIXDIM + 12, "<f", 0.0), *_NO_FORMS),
        "singular_affine": lambda path: _patch(path, good, *_ZERO_SFORM_ROW),
        "huge_header": lambda path: _patch(path, good, *((_DIM + 2 * axis, "<h", 10_000) for axis in (1, 2, 3))),
        "empty": lambda path: path.write_bytes(b""),
        "no_permission": lambda path: (path.write_bytes(good), path.chmod(0)),
        "dangling_link": lambda path: path.symlink_to(folder / "nowhere.nii.gz"),
    }
    paths = {name: folder / f"{name}.nii.gz" for name in makers}
    for name, make in makers.items():
        make(paths[name])
    (folder / "good_source.nii.gz").unlink()
    return paths


# Without qform and sform a reader falls back to the spacing alone.
_NO_FORMS = ((_QFORM_CODE, "<h", 0), (_SFORM_CODE, "<h", 0))
# The third row of the sform, 280 + 2 * 16 bytes into the header.
_ZERO_SFORM_ROW = tuple((312 + 4 * column, "<f", 0.0) for column in range(4))


def _patch(path: Path, good: bytes, *changes: tuple[int, str, float]) -> None:
    content = bytearray(gzip.decompress(good))
    for position, kind, value in changes:
        struct.pack_into(kind, content, position, value)
    path.write_bytes(gzip.compress(bytes(content)))


def _write_rgb(path: Path) -> None:
    voxels = np.zeros((6, 5, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)


def _write_nan(path: Path) -> None:
    voxels = np.random.default_rng(0).random((12, 10, 8)).astype(np.float32)
    voxels[3, 3, 3] = np.nan
    nib.save(nib.Nifti1Image(voxels, np.eye(4)), path)


@contextmanager
def ordinary_user(folder: Path) -> Iterator[None]:
    """Give up root's rights for a while: root reads files of mode 000.

    What is run meanwhile must be imported before: the other user may not read the installation.

    Args:
        folder: Everything in it may be read and written meanwhile.

    Raises:
        PermissionError: If root's rights cannot be given up here.
    """
    if os.geteuid() != 0:
        yield
        return
    for parent in (folder, *folder.parents):
        if parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o055)
    for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        inner.chmod(0o777)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def run_without_root(source: str, *, folder: Path) -> str:
    """Run Python source in a subprocess that has no root rights and return what it prints.

    Root reads files of mode 000, so a test of permissions must not run as root. Where the interpreter or
    `folder` is out of another user's reach, the test is skipped.

    Args:
        source: Python source, which prints its result.
        folder: Folder that the source reads; it and its parents are opened for the other user.
    """
    import pytest

    preamble = ""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        for parent in (folder, *folder.parents):
            if parent.stat().st_uid == 0 and parent.is_relative_to("/tmp") and parent != Path("/tmp"):
                parent.chmod(parent.stat().st_mode | 0o055)
        # Only the effective user changes, after imports that the other user might not be allowed to read.
        preamble = "import os\nos.setegid(65534)\nos.seteuid(65534)\n"
    imports = "import json\nimport medssl.data.volumes\nimport nibabel\nimport psutil\n"
    result = subprocess.run(
        [sys.executable, "-c", imports + preamble + source], capture_output=True, text=True, check=False, timeout=120
    )
    if "Operation not permitted" in result.stderr:
        pytest.skip("cannot give up root's rights here")
    if result.returncode != 0:
        message = f"subprocess failed:\n{result.stderr}"
        raise RuntimeError(message)
    return result.stdout
