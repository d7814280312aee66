"""Distances between items: Hamming of hashes, structural similarity, mutual information, cosine of embeddings."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from medssl.reduction.hashing import Grey, Hashes, hamming

Distances = npt.NDArray[Any]

_SSIM_WINDOW = 11
_SSIM_SIGMA = 1.5


class Measure(Protocol):
    """Distances from one item to all; 0 is equal. `inclusive` says whether the threshold itself is near."""

    inclusive: bool

    def __len__(self) -> int:
        """Return the number of items."""
        ...

    def to(self, item: int) -> Distances:
        """Return the distances (N,) of all items to one."""
        ...


class HammingMeasure:
    """Differing bits of 64-bit hashes (N,); of volumes (N, 31) the median over their slices.

    Args:
        hashes: From `medssl.reduction.hashing.dhash`.
    """

    inclusive = True

    def __init__(self, hashes: Hashes) -> None:
        self.hashes = hashes

    def __len__(self) -> int:
        return len(self.hashes)

    def to(self, item: int) -> Distances:
        """Return the bits (N,) in which all items differ from one."""
        bits = hamming(self.hashes, self.hashes[item])
        return bits if bits.ndim == 1 else np.median(bits, axis=1)


class SsimMeasure:
    """One minus the structural similarity of 8-bit images (N, S, S): Gaussian window of 11 pixels, sigma 1.5.

    Negative similarity counts as none, so distances reach from 0 to 1. One comparison of 128 x 128 pixels takes about
    0.4 ms, and an item 200 KB.

    Args:
        images: Thumbnails.

    Note:
        Source: Wang et al. 2004, equation 13, over the pixels whose window lies inside the image, on values 0 to 1.
    """

    inclusive = False
    _C1, _C2 = 0.01**2, 0.03**2

    def __init__(self, images: Grey) -> None:
        self._images = images.astype(np.float32) / 255
        self._blur = _gaussian(images.shape[1])
        self._means = np.stack([self._blurred(image) for image in self._images])
        squares = np.stack([self._blurred(image * image) for image in self._images])
        self._variances = squares - self._means**2

    def __len__(self) -> int:
        return len(self._images)

    def to(self, item: int) -> Distances:
        """Return one minus the similarity (N,) of all items to one."""
        return np.array([self._distance(item, other) for other in range(len(self))])

    def _blurred(self, image: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        return self._blur @ image @ self._blur.T

    def _distance(self, a: int, b: int) -> float:
        product = self._means[a] * self._means[b]
        covariance = self._blurred(self._images[a] * self._images[b]) - product
        luminance = (2 * product + self._C1) / (self._means[a] ** 2 + self._means[b] ** 2 + self._C1)
        structure = (2 * covariance + self._C2) / (self._variances[a] + self._variances[b] + self._C2)
        return min(1.0, max(0.0, 1.0 - float(np.mean(luminance * structure, dtype=np.float64))))


class NmiMeasure:
    """One minus the normalised mutual information of 8-bit images (N, S, S): (H(a) + H(b)) / H(a, b) - 1.

    One comparison of 128 x 128 pixels takes about 0.1 ms. Two constant images are equal (distance 0).

    Args:
        images: Thumbnails.
        bins: Equal steps of grey, at most 256.
    """

    inclusive = False

    def __init__(self, images: Grey, *, bins: int = 64) -> None:
        self._bins = bins
        grey = images.reshape(len(images), -1).astype(np.int32)
        self._binned = grey * bins // 256
        self._entropies = np.array([_entropy(np.bincount(image, minlength=bins)) for image in self._binned])

    def __len__(self) -> int:
        return len(self._binned)

    def to(self, item: int) -> Distances:
        """Return one minus the information (N,) that all items share with one."""
        return np.array([self._distance(item, other) for other in range(len(self))])

    def _distance(self, a: int, b: int) -> float:
        counts = np.bincount(self._binned[a] * self._bins + self._binned[b], minlength=self._bins**2)
        joint = _entropy(counts)
        shared = (self._entropies[a] + self._entropies[b]) / joint - 1 if joint > 0 else 1.0
        return min(1.0, max(0.0, 1.0 - float(shared)))


class CosineMeasure:
    """One minus the cosine of embeddings (N, D).

    Args:
        embeddings: Rows of any length but zero.
    """

    inclusive = False

    def __init__(self, embeddings: npt.NDArray[np.floating[Any]]) -> None:
        rows = embeddings.astype(np.float64)
        self._unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)

    def __len__(self) -> int:
        return len(self._unit)

    def to(self, item: int) -> Distances:
        """Return one minus the cosine (N,) of all items to one."""
        # Rounded, so that the two directions of a pair and equal rows agree to the last bit
        return np.clip(1.0 - np.round(self._unit @ self._unit[item], 12), 0.0, 2.0)


def _gaussian(size: int) -> npt.NDArray[np.float32]:
    """Return the matrix (size - 10, size) that blurs along one axis, where the window lies inside."""
    offsets = np.arange(_SSIM_WINDOW) - _SSIM_WINDOW // 2
    taps = np.exp(-(offsets**2) / (2 * _SSIM_SIGMA**2))
    matrix = np.zeros((size - _SSIM_WINDOW + 1, size))
    for row in range(len(matrix)):
        matrix[row, row : row + _SSIM_WINDOW] = taps / taps.sum()
    return matrix.astype(np.float32)


def _entropy(counts: npt.NDArray[np.intp]) -> float:
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
