"""Regions of a map: places, neighbours, windows, and the local loss against a plain loop."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch.nn.functional import normalize

from medssl.core.errors import ConfigError
from medssl.losses.contrastive import collapse_value, contrastive_loss
from medssl.losses.region_masks import (
    grid_regions,
    map_pairs,
    nearest_regions,
    quincunx_regions,
    region_masks,
    region_windows,
)
from medssl.losses.view_masks import ViewIds


def test_thirteen_regions_lie_where_they_were_published() -> None:
    places = quincunx_regions((48, 48, 1)).offsets[:, :2].tolist()
    assert places[:3] == [[0, 0], [0, 22], [0, 44]]
    assert places[9:] == [[11, 11], [11, 33], [33, 11], [33, 33]]
    assert len(quincunx_regions((48, 48, 1), count=9).offsets) == 9


def test_a_grid_reaches_all_borders() -> None:
    regions = grid_regions((12, 9, 9), size=(3, 3, 3), grid=(3, 2, 1))
    assert sorted({place[0] for place in regions.offsets.tolist()}) == [0, 4, 9]
    assert sorted({place[1] for place in regions.offsets.tolist()}) == [0, 6]
    assert {place[2] for place in regions.offsets.tolist()} == {3}


@pytest.mark.parametrize("side", [2, 8, 12])
def test_windows_that_overlap_or_leave_the_map_are_refused(side: int) -> None:
    with pytest.raises(ConfigError, match="expected 13 windows"):
        quincunx_regions((side, side, 1))


def test_neighbours_are_the_nearest_with_ties_by_number() -> None:
    regions = quincunx_regions((48, 48, 1))
    found = nearest_regions(regions, 5)
    for region, row in enumerate(found):
        places = regions.offsets.tolist()
        far = {n: sum((a - b) ** 2 for a, b in zip(places[region], places[n], strict=True)) for n in range(13)}
        others = sorted((n for n in range(13) if n != region), key=lambda n: (far[n], n))
        assert row.nonzero().flatten().tolist() == sorted(others[:5])


def test_distances_are_in_millimetres() -> None:
    regions = grid_regions((9, 1, 9), size=(3, 1, 3), grid=(3, 1, 3))
    across = nearest_regions(regions, 1, spacing_mm=(1.0, 1.0, 8.0))[0].nonzero().item()
    assert regions.offsets[across].tolist() == [3, 0, 0]


def _loop_local(first, second, neighbours, *, both: bool = True, temperature: float = 0.1):
    """Mean over regions and both directions, one region at a time."""
    terms = []
    for here, there in ((first, second), (second, first)):
        for u in range(len(here)):
            near = [n for n in range(len(here)) if neighbours[u, n]]
            pulled = (here[u] @ there[u] / temperature).exp()
            pushed = sum((here[u] @ there[n] / temperature).exp() for n in near)
            if both:
                pushed = pushed + sum((here[u] @ here[n] / temperature).exp() for n in near)
            terms.append(-(pulled / (pulled + pushed)).log())
    return sum(terms) / len(terms)


@pytest.mark.parametrize("both", [True, False])
def test_the_local_loss_equals_a_plain_loop(both: bool) -> None:
    neighbours = nearest_regions(quincunx_regions((48, 48, 1)), 5)
    maps = normalize(torch.randn(3, 2, 13, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2)), dim=-1)
    masks = region_masks(neighbours, negatives="both" if both else "other")
    expected = sum(_loop_local(first, second, neighbours, both=both) for first, second in maps) / 3
    assert torch.allclose(contrastive_loss(maps.flatten(1, 2), masks), expected, atol=1e-10)


def test_the_collapse_value_is_that_of_ten_negatives() -> None:
    masks = region_masks(nearest_regions(quincunx_regions((48, 48, 1)), 5))
    assert collapse_value(masks) == pytest.approx(2.3979, abs=1e-4)


def test_pairs_of_maps_follow_the_strategy() -> None:
    ids = ViewIds(
        torch.tensor([0, 0, 1, 1, 2, 2]),
        torch.tensor([7, 7, 8, 8, 8, 8]),
        torch.tensor([0, 0, 0, 0, 1, 1]),
        torch.tensor([0, 1] * 3),
    )
    assert map_pairs(ids, strategy="LR").tolist() == [[0, 1], [2, 3], [4, 5]]
    assert map_pairs(ids, strategy="LD").tolist() == [[0, 1], [0, 2], [1, 3], [2, 3], [4, 5]]
    with pytest.raises(ConfigError, match="LD"):
        map_pairs(ids, strategy="L")


def test_windows_hold_the_voxels_of_their_region() -> None:
    features = torch.arange(2 * 3 * 12 * 9 * 4).reshape(2, 3, 12, 9, 4)
    regions = grid_regions((12, 9, 4), size=(3, 2, 2), grid=(2, 3, 1))
    found = region_windows(features, regions)
    for n, (a, place) in itertools.product(range(2), enumerate(regions.offsets.tolist())):
        x, y, z = place
        assert torch.equal(found[n, a], features[n, :, x : x + 3, y : y + 2, z : z + 2].flatten())


def test_a_marker_lands_in_the_same_region_of_both_views() -> None:
    image = torch.zeros(2, 1, 48, 48, 1)
    image[:, :, 34, 12] = torch.tensor([1.0, 0.5])[:, None, None]
    means = region_windows(image, quincunx_regions((48, 48, 1))).mean(-1)
    assert means.argmax(1).tolist() == [11, 11]
