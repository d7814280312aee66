"""Lesions on another grid: nearest voxels, and none vanishes between the slices."""

import numpy as np

from medssl.data.exam_lesions import lesions_on_grid
from medssl.data.grids import Grid, resample

THIN = Grid(shape=(12, 12, 12), affine=np.diag([0.5, 0.5, 1.0, 1.0]))
THICK = Grid(shape=(12, 12, 4), affine=np.diag([0.5, 0.5, 3.0, 1.0]))  # its slices are 0, 3, 6 and 9 of the thin ones


def _lesions(*slices):
    lesions = np.zeros(THIN.shape, dtype=bool)
    for number, index in enumerate(slices):
        lesions[4 * number : 4 * number + 3, 2:6, index] = True
    return lesions


def test_lesions_that_reach_a_slice_take_the_nearest_voxel():
    lesions = _lesions(slice(2, 5), 6)
    label, thin = lesions_on_grid(lesions, THIN, THICK)
    assert thin == 0
    np.testing.assert_array_equal(label, resample(lesions, THIN.affine, THICK, nearest=True))


def test_a_lesion_between_two_slices_is_put_on_the_nearer_one():
    lesions = _lesions(3, 5)
    label, thin = lesions_on_grid(lesions, THIN, THICK)
    assert thin == 1
    np.testing.assert_array_equal(label[..., 1], lesions[..., 3])
    np.testing.assert_array_equal(label[..., 2], lesions[..., 5])
    assert not label[..., [0, 3]].any()


def test_a_lesion_beside_the_grid_is_not_brought_into_it():
    beside = Grid(shape=(4, 12, 4), affine=THICK.affine)
    lesions = _lesions(3, 5)  # the second begins at the fifth voxel
    label, thin = lesions_on_grid(lesions, THIN, beside)
    assert thin == 0
    assert set(np.nonzero(label)[2]) == {1}


def test_nothing_stays_nothing():
    label, thin = lesions_on_grid(np.zeros(THIN.shape, dtype=bool), THIN, THICK)
    assert (thin, label.any(), label.shape) == (0, False, THICK.shape)
