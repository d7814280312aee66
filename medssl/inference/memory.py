"""The memory plan: how many bytes a case needs, how many are free, and how many were used in the end."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from medssl.core.errors import ResourceError

_CGROUP = Path("/sys/fs/cgroup")
_MEMORY_SHARE = 0.9


@dataclass(frozen=True, kw_only=True)
class CaseMemory:
    """Bytes of one case, by what they are for.

    Attributes:
        image: The file's voxels and their float32 copy.
        working: Preprocessed volume, with the copies that preprocessing makes.
        scores: Sum of tiles for all classes, their weights, and probabilities where they are needed.
        restore: One slab of scores, the label map and its check; or all scores where probabilities are written.
    """

    image: int
    working: int
    scores: int
    restore: int

    @property
    def peak(self) -> int:
        """Bytes at the worst moment of the case."""
        return max(self.image + self.working, self.working + self.scores, self.scores + self.restore)


def plan_case(
    *,
    shape: tuple[int, ...],
    stored_bytes: int,
    working_shape: tuple[int, ...],
    channels: int,
    classes: int,
    keep_probabilities: bool,
) -> CaseMemory:
    """Estimate the memory of one case from its header.

    Args:
        shape: Native voxels.
        stored_bytes: Size of the voxels as stored, one channel.
        working_shape: Voxels of the grid that the network works on, padded to the tile.
        channels: Image files of the case.
        classes: Channels of the network's output.
        keep_probabilities: Whether all scores are restored to the native grid.
    """
    native, working = math.prod(shape), math.prod(working_shape)
    # Three rows of all classes along the shortest axis, or the slab of an oblique grid with its positions.
    slab = max(3 * 4 * classes * native // min(shape), 96 << 20)
    return CaseMemory(
        image=channels * (stored_bytes + 4 * native),
        working=3 * 4 * channels * working,
        scores=4 * working * (2 * classes + 2),
        restore=3 * native + slab + (12 * native * classes if keep_probabilities else 0),
    )


def require_memory(need: CaseMemory) -> None:
    """Stop a case that cannot fit before it begins.

    Raises:
        ResourceError: With the need by purpose and the free amount, in GiB of RAM.
    """
    free = free_memory()
    if need.peak > _MEMORY_SHARE * free:
        parts = ", ".join(f"{name} {_gib(getattr(need, name))}" for name in ("image", "working", "scores", "restore"))
        text = f"expected at most {_gib(free)} of RAM (free), found a need of {_gib(need.peak)} ({parts})."
        fix = "Use --workers 1, close other programs, or use a machine with more memory."
        raise ResourceError(text, fix=fix, code="memory")


def free_memory() -> int:
    """Return the bytes of RAM that are free, within the limit of the container if there is one."""
    free = int(psutil.virtual_memory().available)
    try:
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
    except (OSError, ValueError):  # no container, or no limit ("max")
        return free
    return min(free, max(limit - used, 0))


def peak_memory() -> int:
    """Return the largest number of bytes of RAM that this process has held."""
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(kilobytes if sys.platform == "darwin" else kilobytes * 1024)


def _gib(number: int) -> str:
    return f"{number / 2**30:.1f} GiB"
