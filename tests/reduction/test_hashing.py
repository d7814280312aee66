"""Difference hashes: bit for bit those of imagehash, and thumbnails those of Pillow."""

import imagehash
import numpy as np
import pytest
from PIL import Image

from medssl.reduction.hashing import dhash, hamming, hash_text, thumbnails


def random_images(count, *, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(count):
        rows, columns = rng.integers(1, 400, size=2)
        coarse = rng.integers(0, 256, (int(rng.integers(1, 20)), int(rng.integers(1, 20))), dtype=np.uint8)
        smooth = np.asarray(Image.fromarray(coarse).resize((int(columns), int(rows)), Image.Resampling.BICUBIC))
        yield smooth if rng.random() < 0.5 else rng.integers(0, 256, (rows, columns), dtype=np.uint8)


PATTERNS = {
    "constant": np.full((40, 50), 7, np.uint8),
    "gradient": np.tile(np.arange(200, dtype=np.uint8), (90, 1)),
    "falling": np.tile(np.arange(200, dtype=np.uint8)[::-1], (90, 1)),
    "checkerboard": (np.indices((64, 72)).sum(axis=0) % 2 * 255).astype(np.uint8),
    "nine by eight": np.random.default_rng(3).integers(0, 256, (8, 9), dtype=np.uint8),
    "one pixel": np.full((1, 1), 200, np.uint8),
}


def test_hashes_are_those_of_imagehash_for_images_of_any_size():
    for image in random_images(200):
        assert hash_text(dhash(image[None])[0]) == str(imagehash.dhash(Image.fromarray(image))), image.shape


@pytest.mark.parametrize("name", PATTERNS)
def test_hashes_are_those_of_imagehash_for(name):
    image = PATTERNS[name]
    assert hash_text(dhash(image[None])[0]) == str(imagehash.dhash(Image.fromarray(image)))


def test_distances_are_those_of_imagehash():
    images = [np.ascontiguousarray(image) for image in random_images(20, seed=1)]
    theirs = [imagehash.dhash(Image.fromarray(image)) for image in images]
    ours = np.concatenate([dhash(image[None]) for image in images])
    expected = [[a - b for b in theirs] for a in theirs]
    assert hamming(ours[:, None], ours[None, :]).tolist() == expected


@pytest.mark.parametrize(("rows", "columns"), [(128, 128), (8, 9), (300, 20)])
def test_thumbnails_are_those_of_pillow(rows, columns):
    for image in random_images(20, seed=2):
        expected = np.asarray(Image.fromarray(image).resize((columns, rows), Image.Resampling.LANCZOS))
        assert np.array_equal(thumbnails(image[None], rows=rows, columns=columns)[0], expected)


def test_a_stack_is_hashed_as_its_slices_one_by_one():
    stack = np.random.default_rng(4).integers(0, 256, (30, 120, 130), dtype=np.uint8)
    one_by_one = np.concatenate([dhash(image[None]) for image in stack])
    assert np.array_equal(dhash(stack), one_by_one)


def test_a_stack_may_be_mirrored_or_transposed_in_memory():
    stack = np.random.default_rng(5).integers(0, 256, (3, 50, 60), dtype=np.uint8)
    view = stack.transpose(0, 2, 1)[:, ::-1]
    assert np.array_equal(dhash(view), dhash(np.ascontiguousarray(view)))


def test_brighter_to_the_right_sets_the_bit():
    rising = np.tile(np.arange(90, dtype=np.uint8), (80, 1))
    assert hash_text(dhash(rising[None])[0]) == "f" * 16
    assert hash_text(dhash(rising[None, :, ::-1])[0]) == "0" * 16


def test_a_constant_slice_hashes_to_zero():
    assert dhash(np.full((2, 30, 30), 90, np.uint8)).tolist() == [0, 0]
