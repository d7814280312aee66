"""Hashes of voxels are invariant under mirroring and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from medssl.data.voxel_hash import voxel_digests

AXES = [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)]
# Few different values and short axes, so that symmetric volumes occur often
VOLUMES = arrays.arrays(np.int16, st.tuples(*[st.integers(1, 4)] * 3), elements=st.integers(0, 2))


@settings(max_examples=200, deadline=None)
@given(voxels=VOLUMES, axes=st.sampled_from(AXES))
def test_mirror_images_share_the_second_hash(voxels, axes):
    mirrored = np.flip(voxels, axes)
    assert voxel_digests(mirrored).mirrored == voxel_digests(voxels).mirrored
    assert (voxel_digests(mirrored).exact == voxel_digests(voxels).exact) == np.array_equal(mirrored, voxels)


@settings(max_examples=100, deadline=None)
@given(first=VOLUMES, second=VOLUMES)
def test_volumes_that_are_no_mirror_images_differ(first, second):
    images = [np.flip(first, axes) for axes in [(), *AXES]]
    same = any(np.array_equal(image, second) for image in images)
    assert (voxel_digests(first).mirrored == voxel_digests(second).mirrored) == same


def test_profiles_that_read_alike_backwards_do_not_fool_the_hash():
    # every sum along an axis is symmetric, the volume is not
    voxels = np.array([[1, 2], [2, 1]], np.uint8)[..., None]
    assert voxel_digests(voxels).mirrored == voxel_digests(voxels[::-1]).mirrored
    assert voxel_digests(voxels).exact != voxel_digests(voxels[::-1]).exact


@pytest.mark.parametrize("kind", [np.float32, np.float64, ">i2", np.int64])
def test_the_type_of_the_voxels_does_not_count(kind):
    voxels = np.random.default_rng(0).integers(0, 255, (5, 4, 3)).astype(np.uint8)
    assert voxel_digests(voxels.astype(kind)) == voxel_digests(voxels)


def test_negative_zero_is_zero():
    assert voxel_digests(np.full((2, 2, 2), -0.0)) == voxel_digests(np.zeros((2, 2, 2)))


def test_memory_order_does_not_count():
    voxels = np.random.default_rng(0).random((5, 4, 3))
    assert voxel_digests(np.asfortranarray(voxels)) == voxel_digests(np.ascontiguousarray(voxels))


def test_the_shape_counts():
    assert voxel_digests(np.ones((2, 3, 4))).mirrored != voxel_digests(np.ones((4, 3, 2))).mirrored
