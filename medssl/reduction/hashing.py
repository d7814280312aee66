"""Difference hashes of 8-bit slices, bit for bit those of the imagehash package, for whole stacks at once."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Grey = npt.NDArray[np.uint8]

HASH_BITS = 64

# Pillow resamples 8-bit images with weights of 22 fractional bits and rounds after each of its two passes
_FRACTION_BITS = 22
_LOBES = 3
_CHUNK_PIXELS = 1 << 18


def dhash(slices: Grey) -> Hashes:
    """Hash slices (N, H, W): bit (r, c) tells whether pixel (r, c + 1) of the 8 x 9 thumbnail is brighter than (r, c).

    Equal to `imagehash.dhash(Image.fromarray(slice))`: `format(value, "016x")` is its text. Equal neighbours give 0,
    so a constant slice hashes to 0. Brightness and contrast of the whole slice do not matter, but for rounding.

    Args:
        slices: 8-bit grey values; rows from the first to the last, columns from left to right.

    Returns:
        One 64-bit number for each slice (N,), first bit most significant.

    Note:
        Source: specification of HASH-6 in Wolf et al. 2024; the thumbnail is Pillow's Lanczos filter.
    """
    return _difference_bits(slices, rows=8)[:, 0]


def fine_dhash(slices: Grey) -> Hashes:
    """Hash slices (N, H, W) to 256 bits (N, 4) in the same way, from a thumbnail of 16 x 17 pixels."""
    return _difference_bits(slices, rows=16)


def _difference_bits(slices: Grey, *, rows: int) -> Hashes:
    small = thumbnails(slices, rows=rows, columns=rows + 1)
    bits = (small[:, :, 1:] > small[:, :, :-1]).reshape(len(small), rows * rows)
    return np.packbits(bits, axis=1).view(">u8").astype(np.uint64)


def hamming(first: Hashes, second: Hashes) -> npt.NDArray[np.uint8]:
    """Count the bits in which hashes differ, 0 to 64; the two arrays are broadcast against each other."""
    return np.bitwise_count(first ^ second)


def hash_text(value: int | np.uint64) -> str:
    """Return a hash as 16 hexadecimal digits, as imagehash writes it."""
    return format(int(value), "016x")


def thumbnails(slices: Grey, *, rows: int, columns: int) -> Grey:
    """Resample slices (N, H, W) to (N, rows, columns) with the antialiased Lanczos filter of Pillow, bit for bit.

    Args:
        slices: 8-bit grey values.
        rows: Height of the result.
        columns: Width of the result.
    """
    count, height, width = slices.shape
    result = np.empty((count, rows, columns), dtype=np.uint8)
    step = max(1, _CHUNK_PIXELS // (height * width))
    for start in range(0, count, step):
        part: npt.NDArray[Any] = slices[start : start + step]
        for axis in _passes(height, width, rows=rows, columns=columns):
            values = part.astype(np.float64)
            part = _rounded(_weights(height, rows).T @ values if axis == "rows" else values @ _weights(width, columns))
        result[start : start + step] = part
    return result


def _passes(height: int, width: int, *, rows: int, columns: int) -> list[Literal["rows", "columns"]]:
    """Return the axes to resample, in the order in which Pillow 13 does; each pass rounds, so the order shows.

    Rows come first in images more than about twice as high as wide. Pillow 12 always begins with the columns.
    """
    passes: list[Literal["rows", "columns"]] = []
    if width != columns:
        passes.append("columns")
    if height != rows:
        passes.append("rows")
    rows_first = height > rows and height - rows > 2 * (width - columns)
    return passes[::-1] if rows_first else passes


def _rounded(sums: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # Sums of products of integers below 2^53 are exact in float64, in whatever order they are added
    return np.clip(np.floor((sums + 2 ** (_FRACTION_BITS - 1)) * 2.0**-_FRACTION_BITS), 0, 255)


@lru_cache(maxsize=64)
def _weights(size: int, target: int) -> npt.NDArray[np.float64]:
    """Return the integer weights (size, target) with which Pillow takes `size` pixels to `target`."""
    scale = size / target
    stretch = max(scale, 1.0)
    weights = np.zeros((size, target))
    for index in range(target):
        centre = (index + 0.5) * scale
        first = max(0, int(centre - _LOBES * stretch + 0.5))
        last = min(size, int(centre + _LOBES * stretch + 0.5))
        taps = _lanczos((np.arange(first, last) - centre + 0.5) / stretch)
        exact = taps / taps.sum() * 2**_FRACTION_BITS
        weights[first:last, index] = np.trunc(exact + np.copysign(0.5, exact))
    return weights


def _lanczos(position: npt.NDArray[Any]) -> npt.NDArray[Any]:
    inside = (position >= -_LOBES) & (position < _LOBES)
    return np.where(inside, np.sinc(position) * np.sinc(position / _LOBES), 0.0)
