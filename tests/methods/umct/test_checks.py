"""Both steps refuse networks and crops that several views cannot be trained with."""

from __future__ import annotations

from typing import Any

import pytest
from methods.umct.small_umct import make_step, small_network
from methods.umct.test_source_free import make_source_free
from torch import nn

from medssl.core.errors import ConfigError
from medssl.methods.umct import PseudoLabels
from medssl.networks import SplitSegResNet

_STEPS = pytest.mark.parametrize("make", [make_step, make_source_free])


@_STEPS
@pytest.mark.parametrize("spacing", [None, (0.0, 0.0, 0.0), (-1.0, -1.0, -1.0), (1.0, 1.0, 4.0)])
def test_crops_that_may_not_be_cubes_are_refused(make, spacing: Any) -> None:
    with pytest.raises(ConfigError, match="resample_to_spacing"):
        make(small_network(), spacing_mm=spacing)
    make(small_network(), spacing_mm="any")


@_STEPS
def test_a_patch_that_a_view_cannot_halve_is_refused(make) -> None:
    with pytest.raises(ConfigError, match="Y = 5 is no multiple of 2"):
        make(small_network(), patch_size=(4, 5, 8))
    make(small_network(), patch_size=(4, 6, 8))


@_STEPS
def test_passes_without_dropout_are_refused_and_no_passes_are_not(make) -> None:
    network = small_network(dropout_rate=0.0)
    with pytest.raises(ConfigError, match=r"dropout rate above 0 in the network of axial for 4 passes.*dropout_rate"):
        make(network)
    make(network, pseudo_labels=PseudoLabels(passes=0))
    for part in network.networks.values():
        part.channel_dropout = nn.Identity()
    with pytest.raises(ConfigError, match="need a ChannelDropout in the network of axial"):
        make(network)


@_STEPS
def test_a_network_of_one_view_is_refused(make) -> None:
    with pytest.raises(ConfigError, match="expected a MultiViewNet, got SplitSegResNet"):
        make(SplitSegResNet())
