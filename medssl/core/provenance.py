"""What made a result: versions, machine and time, without anything that identifies a person."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

_PACKAGES = ("medssl", "monai", "torch", "pytorch-ignite", "nibabel", "numpy", "scipy", "SimpleITK")


def package_versions() -> dict[str, str]:
    """Return the installed versions of the packages that decide a result, and of Python."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def utc_now() -> str:
    """Return the current time as ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def provenance(command: str, **inputs: Any) -> dict[str, Any]:
    """Return the block that every output carries: the command's name, time, versions and input hashes."""
    return {
        "command": command,
        "time": utc_now(),
        "versions": package_versions(),
        "platform": f"{platform.system()} {platform.machine()}",
        "inputs": inputs,
    }
