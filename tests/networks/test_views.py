"""Views go there and exactly back, and wrong lists of views are refused with what to write instead."""

from __future__ import annotations

import pytest
import torch

from medssl.core.errors import ConfigError
from medssl.networks.views import VIEWS, check_isotropic, parse_views

_VOLUME = torch.randn(2, 3, 8, 12, 16)


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_back_and_forth_is_the_identity(view) -> None:
    assert torch.equal(view.from_view(view.to_view(_VOLUME)), _VOLUME)
    assert torch.equal(view.to_view(view.from_view(_VOLUME)), _VOLUME)


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_a_marked_voxel_stands_where_the_axes_say(view) -> None:
    volume = torch.zeros(1, 1, 8, 12, 16)
    volume[0, 0, 1, 2, 3] = 1.0
    seen = view.to_view(volume)
    sizes, place = ([numbers[axis] for axis in view.axes] for numbers in ((8, 12, 16), (1, 2, 3)))
    assert list(seen.shape[2:]) == sizes
    assert seen[(0, 0, *place)] == 1.0


def test_the_sagittal_view_is_not_its_own_inverse() -> None:
    sagittal = VIEWS["sagittal"]
    assert sagittal.to_view(sagittal.to_view(_VOLUME)).shape != _VOLUME.shape
    assert sagittal.inverse == (2, 0, 1)


def test_six_views_are_all_permutations() -> None:
    assert len({view.axes for view in parse_views(6)}) == 6


def test_counts_names_and_permutations_name_the_same_views() -> None:
    assert (
        parse_views(3)
        == parse_views(["axial", "coronal", "sagittal"])
        == parse_views([[0, 1, 2], [0, 2, 1], [1, 2, 0]])
    )
    assert parse_views(2) == parse_views(3)[:2]


@pytest.mark.parametrize(
    ("views", "words"),
    [
        (1, "expected 2, 3 or 6, or a list of at least 2 views.* got 1"),
        (2.0, r"expected 2, 3 or 6.* got 2\.0"),
        (True, "expected 2, 3 or 6.* got True"),
        (None, "expected 2, 3 or 6.* got None"),
        ({"axial": 0, "coronal": 1}, "expected 2, 3 or 6"),
        (["axial"], "at least 2 views"),
        ("axial", "at least 2 views"),
        (["axial", "axial"], "axial more than once"),
        (["axial", "sagital"], 'Did you mean "sagittal".*2, 3 or 6'),
        (["axial", [0, 1, 1]], r"unknown view \[0, 1, 1\].*permutation of \[0, 1, 2\]"),
        ([0, 1, 2], "unknown view 0.*2, 3 or 6"),
        ([None, "axial"], "unknown view None"),
    ],
)
def test_wrong_views_are_refused(views, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_views(views)


def test_thick_slices_are_refused_and_almost_cubic_voxels_are_not() -> None:
    check_isotropic((1.0, 1.04, 1.0))
    with pytest.raises(ConfigError, match=r"1 x 1\.06 x 1 mm"):
        check_isotropic((1.0, 1.06, 1.0))


@pytest.mark.parametrize("spacing", [None, (0, 0, 0), (-1, -1, -1), (1.0, 1.0), "none", 1.0, (1.0, None, 1.0)])
def test_a_voxel_size_that_is_not_known_is_refused_unless_asked_for(spacing) -> None:
    with pytest.raises(ConfigError, match="three numbers above 0 mm"):
        check_isotropic(spacing)
    check_isotropic("any")
