"""Random cases for lesion metrics: references and detection maps with hits, misses, false and second candidates."""

import numpy as np
from scipy import ndimage

SHAPE = (20, 18, 8)


def reference(rng):
    """Return a lesion map with none to three boxes."""
    lesions = np.zeros(SHAPE, np.int32)
    for _ in range(rng.integers(0, 4)):
        _box(lesions, rng, 1)
    return lesions


def detection_map(rng, lesions):
    """Return candidates on and beside lesions, each component with one confidence of few values, so that ties occur."""
    marked = np.zeros(SHAPE, np.int32)
    for _ in range(rng.integers(0, 4)):
        _box(marked, rng, 1)
    labelled, count = ndimage.label(lesions, np.ones((3, 3, 3)))
    for number in range(1, count + 1):
        if rng.random() < 0.7:
            moved = np.roll(labelled == number, rng.integers(-2, 3, 3), axis=(0, 1, 2))
            marked[moved] = 1
            if rng.random() < 0.3:  # two candidates on one lesion
                marked[:, int(np.argwhere(moved).mean(0)[1])] = 0
    components, count = ndimage.label(marked, np.ones((3, 3, 3)))
    confidences = np.append(0.0, rng.integers(1, 12, count) / 12).astype(np.float32)
    return confidences[components]


def _box(volume, rng, value):
    start = [rng.integers(0, size - 2) for size in SHAPE]
    stop = [low + rng.integers(2, 7) for low in start]
    volume[tuple(slice(low, high) for low, high in zip(start, stop, strict=True))] = value


def cases(count, seed=0):
    """Return (detection map, reference) of many cases."""
    rng = np.random.default_rng(seed)
    return [(detection_map(rng, lesions), lesions) for lesions in (reference(rng) for _ in range(count))]
