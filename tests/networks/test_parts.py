"""Parts of a network: those it names, or the network itself."""

from __future__ import annotations

from torch import nn

from medssl.networks import MultiViewNet, ViewNet
from medssl.networks.parts import independent_parts


def test_a_network_without_parts_is_its_own_part() -> None:
    network = nn.Conv3d(1, 1, 1)
    assert independent_parts(network) == [network]


def test_views_are_the_parts_of_a_network_of_views() -> None:
    network = MultiViewNet(out_channels=2, network=lambda **sizes: ViewNet(**sizes, size="tiny"), views=2)
    assert independent_parts(network) == [part for _, part in network.parts()]
