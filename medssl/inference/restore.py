"""Bring scores from the working grid back to the grid of the file and decide the label of each voxel.

The result is that of MONAI's `Invertd` followed by `AsDiscreted`, but never holds all classes on the native grid:
interpolation goes slab by slab, with a running maximum over the classes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from medssl.inference.geometry import Reindex, Resample, Step

_SLAB_BYTES = 32 << 20


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How scores become labels.

    Attributes:
        threshold: None for the class with the largest score; a number for two labels from one channel (score at
            least the threshold is 1).
    """

    threshold: float | None = None


def restore_labels(
    scores: Tensor, *, steps: Sequence[Step], decision: Decision, slab_bytes: int = _SLAB_BYTES
) -> Tensor:
    """Go back to the native grid and decide labels; peak memory beyond `scores` is a slab and the label map.

    Args:
        scores: Scores (K, I, J, L) on the working grid.
        steps: Way back, from `geometry.steps_back`; at most one interpolates.
        decision: Largest class, or a threshold.
        slab_bytes: Memory for one slab where grids are oblique to each other; otherwise a slab is one row.

    Returns:
        Label map (X, Y, Z): uint8 up to 256 classes, otherwise int16.
    """
    before, resample, after = _split(steps)
    for step in before:
        scores = reindex(scores, step)
    labels = _decide(scores, decision) if resample is None else _decide_slabs(scores, resample, decision, slab_bytes)
    for step in after:
        labels = reindex(labels[None], step)[0]
    return labels


def restore_scores(scores: Tensor, *, steps: Sequence[Step]) -> Tensor:
    """Go back to the native grid and keep all scores (K, X, Y, Z); costs K native volumes of float32."""
    before, resample, after = _split(steps)
    for step in before:
        scores = reindex(scores, step)
    if resample is not None:
        slabs = [slab for _, slab in _slabs(scores, resample, _SLAB_BYTES)]
        scores = torch.cat(slabs, dim=1)
    for step in after:
        scores = reindex(scores, step)
    return scores


def reindex(volume: Tensor, step: Reindex) -> Tensor:
    """Permute, flip, cut and zero-pad a volume (K, I, J, L); a view where nothing is padded and nothing flips."""
    order = [1 + step.axes.index(axis) for axis in range(3)]
    volume = volume.flip([1 + j for j in range(3) if step.flips[j]]) if any(step.flips) else volume
    volume = volume.permute(0, *order)
    source, target = [], []
    for size, start, length in zip(volume.shape[1:], step.offset, step.shape, strict=True):
        first, last = max(start, 0), min(start + length, size)
        source.append(slice(first, max(last, first)))
        target.append(slice(first - start, max(last, first) - start))
    cut = volume[(slice(None), *source)]
    if cut.shape[1:] == step.shape:
        return cut
    padded = volume.new_zeros((volume.shape[0], *step.shape))
    padded[(slice(None), *target)] = cut
    return padded


def label_dtype(classes: int) -> torch.dtype:
    """Return the narrowest integer type that holds label values 0 to `classes` - 1."""
    return torch.uint8 if classes <= 256 else torch.int16


def _split(steps: Sequence[Step]) -> tuple[list[Reindex], Resample | None, list[Reindex]]:
    before = list(itertools.takewhile(lambda step: isinstance(step, Reindex), steps))
    rest = list(steps[len(before) :])
    resample = rest.pop(0) if rest else None
    if isinstance(resample, Reindex):  # cannot happen: takewhile stops only at a Resample
        message = "a way back interpolates at most once"
        raise TypeError(message)
    return [s for s in before if isinstance(s, Reindex)], resample, [s for s in rest if isinstance(s, Reindex)]


def _decide(scores: Tensor, decision: Decision) -> Tensor:
    if decision.threshold is not None:
        return (scores[0] >= decision.threshold).to(torch.uint8)
    best, labels = scores[0], torch.zeros(scores.shape[1:], dtype=label_dtype(len(scores)), device=scores.device)
    # a running maximum is several times faster than torch.argmax over the class axis, and ties go to the first class
    for label in range(1, len(scores)):
        higher = scores[label] > best
        labels.masked_fill_(higher, label)
        best = torch.maximum(best, scores[label])
    return labels


def _decide_slabs(scores: Tensor, resample: Resample, decision: Decision, slab_bytes: int) -> Tensor:
    labels = torch.empty(resample.shape, dtype=label_dtype(len(scores)), device=scores.device)
    for window, slab in _slabs(scores, resample, slab_bytes):
        labels[window] = _decide(slab, decision)
    return labels


def _slabs(scores: Tensor, resample: Resample, slab_bytes: int) -> Iterator[tuple[slice, Tensor]]:
    """Yield (rows along the first native axis, interpolated scores (K, rows, Y, Z))."""
    if _separable(resample):
        yield from _lerp_rows(scores, resample)
        return
    row_bytes = 4 * len(scores) * resample.shape[1] * resample.shape[2]
    rows = max(int(slab_bytes // row_bytes), 1)
    for first in range(0, resample.shape[0], rows):
        window = slice(first, min(first + rows, resample.shape[0]))
        yield window, _sample_slab(scores, resample, window)


def _separable(resample: Resample) -> bool:
    linear = np.abs(resample.matrix[:3, :3])
    # what is neglected must stay far below a voxel over the whole axis
    small = linear * (np.array(resample.shape) - 1)[None, :] < 1e-6
    return bool((~small).sum(1).max() <= 1 and _one_axis_each(linear))


def _one_axis_each(linear: np.ndarray) -> bool:
    return len(set(linear.argmax(1).tolist())) == 3


def _lerp_rows(scores: Tensor, resample: Resample) -> Iterator[tuple[slice, Tensor]]:
    """Interpolate axis by axis: the grids differ by scale, shift, flips and order of axes only.

    Each source row is brought to the native (Y, Z) once and kept as long as a native row lies beside it, so that the
    last and largest interpolation is a plain blend of two rows. At most three rows of all classes are held.
    """
    axes = np.abs(resample.matrix[:3, :3]).argmax(1).tolist()  # target axis of each source axis
    sources = [axes.index(axis) for axis in range(3)]
    aligned = scores.permute(0, *[1 + source for source in sources])
    positions = [
        resample.matrix[source, axis] * np.arange(resample.shape[axis]) + resample.matrix[source, 3]
        for axis, source in enumerate(sources)
    ]
    low, weight = _neighbours(positions[0], aligned.shape[1])
    rows: dict[int, Tensor] = {}
    for target, (first, share) in enumerate(zip(low.tolist(), weight.tolist(), strict=True)):
        second = min(first + 1, aligned.shape[1] - 1)
        rows = {row: rows[row] for row in (first, second) if row in rows}
        for row in {first, second} - rows.keys():
            # the last axis first: gathering along it costs most, and so it meets fewer voxels
            rows[row] = _lerp(_lerp(aligned[:, row], positions[2], 2), positions[1], 1)
        yield slice(target, target + 1), torch.lerp(rows[first], rows[second], share)[:, None]


def _neighbours(position: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the source voxel below each position and the share of the one above; outside is the border."""
    position = position.clip(0, size - 1)
    low = np.minimum(np.floor(position).astype(np.int64), max(size - 2, 0))
    return low, position - low


def _lerp(volume: Tensor, position: np.ndarray, axis: int) -> Tensor:
    size = volume.shape[axis]
    low, weight = _neighbours(position, size)
    shape = [1] * volume.ndim
    shape[axis] = -1
    share = torch.from_numpy(weight.astype(np.float32)).reshape(shape).to(volume.device)
    first = torch.from_numpy(low).to(volume.device)
    second = torch.from_numpy(np.minimum(low + 1, size - 1)).to(volume.device)
    return torch.lerp(volume.index_select(axis, first), volume.index_select(axis, second), share)


def _sample_slab(scores: Tensor, resample: Resample, window: slice) -> Tensor:
    """Interpolate on an oblique grid, in float64 because normalised float32 positions are too coarse."""
    ranges = [np.arange(window.start, window.stop), np.arange(resample.shape[1]), np.arange(resample.shape[2])]
    target = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1)
    position = target @ resample.matrix[:3, :3].T + resample.matrix[:3, 3]
    limits = np.array(scores.shape[1:]) - 1
    position = position.clip(0, limits)
    low = np.floor(position.reshape(-1, 3).min(0)).astype(int)
    high = np.minimum(np.ceil(position.reshape(-1, 3).max(0)).astype(int), limits)
    box = scores[(slice(None), *(slice(a, b + 1) for a, b in zip(low, high, strict=True)))]
    span = np.maximum(high - low, 1)
    normalised = torch.from_numpy(((position - low) / span * 2 - 1)[..., ::-1].copy()).to(scores.device)
    # one class at a time keeps the float64 copy small
    sampled = [
        torch.nn.functional.grid_sample(
            channel[None, None].double(), normalised[None], mode="bilinear", padding_mode="border", align_corners=True
        )[0, 0].float()
        for channel in box
    ]
    return torch.stack(sampled)
