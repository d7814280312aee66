"""Hashes of voxels: equal for equal volumes, and one that stays equal when a volume is mirrored."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_Flips = tuple[bool, bool, bool]


class VoxelDigests(NamedTuple):
    """Hash of a volume as it lies, and the hash that all its eight mirror images share."""

    exact: str
    mirrored: str


def voxel_digests(voxels: npt.NDArray[Any]) -> VoxelDigests:
    """Hash a volume (I, J, K) as it lies and in the one of its eight mirror images that stands for all.

    Values count, not types: the same volume stored as uint8 and as float32 has the same hashes. Memory beyond the
    volume is one slice. Three passes over the slices; more only where the volume looks alike from both ends.

    Args:
        voxels: Finite numbers.
    """
    along_i, along_j, along_k = (_orientations(profile) for profile in _profiles(voxels))
    candidates = itertools.product(along_i, along_j, along_k)
    unflipped = (False, False, False)
    exact = _digest(voxels, unflipped)
    mirrored = min(exact if flips == unflipped else _digest(voxels, flips) for flips in candidates)
    return VoxelDigests(exact, mirrored)


def _slices(voxels: npt.NDArray[Any], *, backwards: bool = False) -> Iterator[npt.NDArray[np.uint32]]:
    """Yield the slices along K as the bits of float32 values."""
    order = range(voxels.shape[2])
    for k in reversed(order) if backwards else order:
        # Adding zero turns -0.0 into 0.0, which has other bits
        yield (voxels[:, :, k].astype(np.float32, order="C") + np.float32(0)).view(np.uint32)


def _profiles(voxels: npt.NDArray[Any]) -> list[list[int]]:
    """Sum the bits of each slice along each axis; integers, so the order of summation does not matter."""
    along_i, along_j = (np.zeros(size, dtype=np.uint64) for size in voxels.shape[:2])
    along_k = []
    for bits in _slices(voxels):
        along_i += bits.sum(axis=1, dtype=np.uint64)
        along_j += bits.sum(axis=0, dtype=np.uint64)
        along_k.append(int(bits.sum(dtype=np.uint64)))
    return [along_i.tolist(), along_j.tolist(), along_k]


def _orientations(profile: list[int]) -> tuple[bool, ...]:
    """Tell whether to flip an axis: so that its profile comes first; both ways if it reads alike backwards."""
    backwards = profile[::-1]
    if profile == backwards:
        return (False, True)
    return (backwards < profile,)


def _digest(voxels: npt.NDArray[Any], flips: _Flips) -> str:
    digest = hashlib.blake2b(repr(voxels.shape).encode(), digest_size=16)
    step_i, step_j = (-1 if flip else 1 for flip in flips[:2])
    for bits in _slices(voxels, backwards=flips[2]):
        digest.update(bits[::step_i, ::step_j].tobytes())
    return digest.hexdigest()
