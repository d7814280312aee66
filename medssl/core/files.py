"""Files that appear whole or not at all, hashes, and paths that never leave their root."""

from __future__ import annotations

import errno
import fcntl
import glob
import hashlib
import itertools
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from medssl.core.errors import ConfigError, ManifestError, ResourceError

_TEMPORARY_PREFIX = ".tmp-"

# No room on the disk, none in the user's quota, or a file longer than the process may write
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` when the block ends well.

    The temporary name keeps every suffix (".nii.gz" stays ".nii.gz"), so savers that look at it work.
    The file is flushed to disk before the rename; after an error it is removed and `target` is untouched.

    Args:
        target: Final path; its folder is created if needed.

    Yields:
        The path to write to.

    Raises:
        ResourceError: If the disk or the user's quota is full.
    """
    target = Path(target)
    temporary = _beside(target)
    try:
        with _full_disk_named(target.name):
            target.parent.mkdir(parents=True, exist_ok=True)
            yield temporary
            _sync(temporary)
            temporary.replace(target)
            _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a new folder beside `target`; rename it to `target` when the block ends well, remove it otherwise.

    Args:
        target: Final folder; may exist if it is empty.

    Yields:
        The folder to fill.

    Raises:
        ResourceError: If the disk or the user's quota is full.
    """
    target = Path(target)
    temporary = _beside(target)
    try:
        with _full_disk_named(target.name):
            target.parent.mkdir(parents=True, exist_ok=True)
            for leftover in target.parent.glob(f"{_TEMPORARY_PREFIX}*-{glob.escape(_end_of(target))}"):
                if leftover.is_dir() and not _writer_lives(leftover):
                    shutil.rmtree(leftover)
            temporary.mkdir()
            yield temporary
            if target.is_dir():
                target.rmdir()
            temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _full_disk_named(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        full = disk_full(error, name)
        if full is None:
            raise
        raise full from error


def disk_full(error: BaseException, name: str) -> ResourceError | None:
    """Return what to tell the user if `error` says that there is no room left to write, or else None.

    Args:
        error: What a writer raised.
        name: What was being written.
    """
    if not isinstance(error, OSError) or error.errno not in _FULL:
        return None
    text = f"{name}: expected room to write it, found a full disk or quota ({error.strerror}). It was not written."
    return ResourceError(text, fix="Free some space; the same command then goes on.", code="disk-full")


def _beside(target: Path) -> Path:
    return target.with_name(f"{_TEMPORARY_PREFIX}{os.getpid()}-{secrets.token_hex(4)}-{_end_of(target)}")


def _end_of(target: Path) -> str:
    """Return the end of the name, which holds every suffix: the temporary name must not become too long."""
    return target.name[-40:]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some network file systems refuse fsync on folders; the rename itself is still atomic there.
        if not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def write_bytes(target: Path, content: bytes) -> None:
    """Write `content` to `target`, whole or not at all."""
    with atomic_path(target) as temporary:
        temporary.write_bytes(content)


def write_text(target: Path, content: str) -> None:
    """Write UTF-8 text to `target`, whole or not at all."""
    write_bytes(target, content.encode("utf-8"))


def write_json(target: Path, content: Any, *, indent: int = 4) -> None:
    """Write `content` as JSON to `target`, whole or not at all; NaN and infinities are refused."""
    write_text(target, json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False) + "\n")


def sweep_leftovers(folder: Path) -> int:
    """Remove temporary files that a killed process left below `folder`; return how many there were.

    Files of a process that still runs are left alone.
    """
    leftovers = [path for path in Path(folder).rglob(f"{_TEMPORARY_PREFIX}*") if not _writer_lives(path)]
    for path in leftovers:
        path.unlink(missing_ok=True)
    return len(leftovers)


@contextmanager
def sole_writer(folder: Path, *, patience: float = 15.0) -> Iterator[None]:
    """Hold a folder, so that no other process of medssl writes into it meanwhile; nothing is left behind.

    Args:
        folder: The folder; made if needed.
        patience: Seconds to wait for it. The workers of a killed process hold it until they notice.

    Raises:
        ConfigError: If another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        _lock(handle, folder, time.monotonic() + patience)
        yield
    finally:
        os.close(handle)  # releases the lock, as does the end of the process, however it ends


def _lock(handle: int, folder: Path, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() >= deadline:
                message = f"{folder}: another process is writing there. Wait for it, or choose another --out."
                raise ConfigError(message) from error
            time.sleep(0.2)
        except OSError:  # a file system without locks: as good as before there was one
            return
        else:
            return


def _writer_lives(path: Path) -> bool:
    pid = path.name.removeprefix(_TEMPORARY_PREFIX).split("-", 1)[0]
    if not pid.isdigit():
        return True  # not a name of ours
    if int(pid) == os.getpid():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(content: Any) -> str:
    """Return the SHA-256 of JSON content, independent of key order and white space."""
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def set_aside(path: Path) -> Path:
    """Rename a file or folder to `NAME_before1`, or the next number that is free, and return where it is now."""
    names = (path.with_name(f"{path.stem}_before{number}{path.suffix}") for number in itertools.count(1))
    return path.rename(next(name for name in names if not name.exists()))


def keep_source(out: Path, sources: Iterable[Path], *, option: str = "--out") -> None:
    """Refuse to write over a file that is being read.

    Args:
        out: What would be written.
        sources: What is read; what does not exist is passed over.
        option: Name of the option that gave `out`, for the message.

    Raises:
        ConfigError: If `out` is one of the sources, also under another name.
    """
    if out.exists() and any(source.exists() and out.samefile(source) for source in sources):
        message = f"{option} {out}: expected a file of its own, found one that this command reads. Choose another name."
        raise ConfigError(message)


def inside_root(root: Path, relative: str) -> Path:
    """Join `relative` to `root` and refuse a path that would leave it.

    Links are followed by the file system later on; what counts here is the written path.

    Args:
        root: Folder that must contain the result.
        relative: Path relative to `root`.

    Returns:
        The joined path, with ".." resolved lexically.

    Raises:
        ManifestError: If `relative` is absolute or climbs out of `root`.
    """
    base = Path(os.path.abspath(root))  # noqa: PTH100  (resolve() would follow links)
    joined = Path(os.path.normpath(base / relative))
    if Path(relative).is_absolute() or not joined.is_relative_to(base):
        message = (
            f"path {relative!r} leaves the data root {base}. Expected a path relative to that folder. "
            "Correct the path, or choose a higher folder with --data-root."
        )
        raise ManifestError(message)
    return joined
