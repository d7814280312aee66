"""Steps between grids: exact where indices suffice, one interpolation otherwise."""

import numpy as np
import pytest

from medssl.core.errors import GeometryError
from medssl.data.grids import Grid
from medssl.inference.geometry import Reindex, Resample, steps_back


def _grid(shape, *diagonal, shift=(0, 0, 0)):
    affine = np.diag([*diagonal, 1.0]).astype(float)
    affine[:3, 3] = shift
    return Grid(shape=shape, affine=affine)


def test_equal_grids_make_no_step():
    assert steps_back([_grid((4, 5, 6), 1, 1, 1), _grid((4, 5, 6), 1, 1, 1)]) == ()


def test_flip_and_crop_are_index_steps():
    before = _grid((8, 5, 6), 1, 1, 1)
    flipped_and_cropped = _grid((4, 5, 6), -1, 1, 1, shift=(6, 0, 0))
    (step,) = steps_back([before, flipped_and_cropped])
    assert isinstance(step, Reindex)
    assert (step.flips, step.offset, step.shape) == ((True, False, False), (-3, 0, 0), (8, 5, 6))


def test_half_a_voxel_is_an_interpolation():
    (step,) = steps_back([_grid((4, 4, 4), 1, 1, 1), _grid((4, 4, 4), 1, 1, 1, shift=(0.5, 0, 0))])
    assert isinstance(step, Resample)


def test_a_tiny_scale_adds_up_over_a_long_axis():
    (step,) = steps_back([_grid((500, 4, 4), 1, 1, 1), _grid((500, 4, 4), 1.00001, 1, 1)])
    assert isinstance(step, Resample)


def test_two_interpolations_are_refused():
    grids = [_grid((4, 4, 4), 1, 1, 1), _grid((2, 4, 4), 2, 1, 1), _grid((2, 2, 4), 2, 2, 1)]
    with pytest.raises(GeometryError, match="more than once"):
        steps_back(grids)


def test_singular_affine_is_refused():
    with pytest.raises(GeometryError, match="inverted"):
        steps_back([_grid((4, 4, 4), 1, 1, 1), _grid((4, 4, 4), 1, 0, 1)])
