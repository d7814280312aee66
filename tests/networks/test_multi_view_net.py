"""Several views in one network: one frame outside, separate weights, one fused output."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.nets import SegResNet, UNet
from torch import nn

from medssl.core.errors import ConfigError
from medssl.networks import MultiViewNet, SplitSegResNet, ViewNet
from medssl.networks.fusion import fuse_logits

_IMAGE = torch.randn(2, 1, 8, 16, 24)  # no two axes alike
_tiny = partial(SplitSegResNet, init_filters=4, blocks_down=(1, 1), blocks_up=(1,))


def _network(views=3, classes: int = 3) -> MultiViewNet:
    torch.manual_seed(0)
    return MultiViewNet(out_channels=classes, network=_tiny, views=views).eval()


class _Probe(nn.Module):
    """Answers with the image itself, in the frame it is shown."""

    strides = (1, 1, 1)

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.seen: torch.Tensor | None = None

    def encode(self, image):
        return [image]

    def decode(self, features):
        return features[-1]

    def tail(self, features):
        return features

    def tail_modules(self):
        return []

    def forward(self, image):
        self.seen = image
        return self.tail(self.decode(self.encode(image)))


@pytest.mark.parametrize("views", [2, 3, 6])
def test_all_views_see_the_same_crop_and_answer_in_its_frame(views: int) -> None:
    network = MultiViewNet(network=_Probe, views=views)
    answers = network.logits_by_view(_IMAGE)
    assert all(torch.equal(answer, _IMAGE) for answer in answers)
    for view, probe in network.parts():
        assert torch.equal(probe.seen, _IMAGE.permute(0, 1, *(axis + 2 for axis in view.axes)))


@pytest.mark.parametrize("views", [2, 6])
def test_the_output_is_the_log_of_the_mean_probability(views: int) -> None:
    network = _network(views)
    with torch.no_grad():
        fused = network(_IMAGE)
        mean = torch.stack([logits.double().softmax(1) for logits in network.logits_by_view(_IMAGE)]).mean(0)
    assert fused.dtype is torch.float32
    assert fused.shape == (2, 3, 8, 16, 24)
    assert torch.allclose(fused.double().softmax(1), mean, atol=1e-6)


def test_fusion_is_float32_under_autocast() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert _network()(_IMAGE).dtype is torch.float32


@pytest.mark.parametrize("fusion", ["majority", "coronal"])
def test_another_fusion_needs_no_other_weights(fusion: str) -> None:
    network, other = _network(), MultiViewNet(out_channels=3, network=_tiny, views=3, fusion=fusion).eval()
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        views = network.logits_by_view(_IMAGE)
        expected = views[1] if fusion == "coronal" else fuse_logits(views, rule="majority")
        assert torch.equal(other(_IMAGE), expected)
        assert torch.equal(other.fuse(views), expected)


def test_unknown_fusion_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected as fusion one of mean, majority, axial"):
        MultiViewNet(network=_tiny, fusion="axail")


def test_views_share_no_weights_and_names_do_not_depend_on_their_order() -> None:
    network, turned = _network(["axial", "coronal"]), _network(["coronal", "axial"])
    first, second = network.networks.values()
    assert not {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()}
    assert not torch.equal(first.convInit.conv.weight, second.convInit.conv.weight)
    assert set(network.state_dict()) == set(turned.state_dict())
    assert all(name.startswith(("networks.axial.", "networks.coronal.")) for name in network.state_dict())


def test_weights_of_a_view_stay_with_its_name_in_another_order() -> None:
    network, turned = _network(["axial", "coronal"]), _network(["coronal", "axial"])
    turned.load_state_dict(network.state_dict())
    assert torch.allclose(network(_IMAGE), turned(_IMAGE), atol=1e-6)


@pytest.mark.parametrize("make", [_tiny, partial(ViewNet, size="tiny")], ids=["segresnet", "view_net"])
def test_a_traced_network_equals_it_on_another_shape_and_batch(make) -> None:
    network = MultiViewNet(network=make).eval()
    traced = torch.jit.trace(network, torch.randn(1, 1, 16, 16, 8), check_trace=False)
    image = torch.randn(2, 1, 16, 8, 24)
    with torch.no_grad():
        assert torch.allclose(traced(image), network(image), atol=1e-5)


def test_the_same_normalisation_is_handed_to_every_view() -> None:
    network = MultiViewNet(network=_tiny, norm=["batch", {"affine": True}])
    kinds = [{type(m) for m in part.modules() if "Norm" in type(m).__name__} for part in network.networks.values()]
    assert kinds == [{nn.BatchNorm3d}] * 3


@pytest.mark.parametrize("make", [SegResNet, partial(UNet, 3, channels=(4, 8), strides=(2,))])
def test_networks_that_are_not_split_are_refused(make) -> None:
    with pytest.raises(ConfigError, match="encode, decode and tail"):
        MultiViewNet(network=make)


def test_a_bundle_builds_it_from_a_callable_component_and_other_classes_change_the_heads_only() -> None:
    part = {"_target_": "medssl.networks.ViewNet", "_mode_": "callable", "size": "tiny", "dropout_place": "head"}
    config = {"_target_": "medssl.networks.MultiViewNet", "views": 2, "network": part}
    three, four = (
        ConfigParser({"network_def": {**config, "out_channels": count}}).get_parsed_content("network_def")
        for count in (3, 4)
    )
    pairs = zip(three.state_dict().items(), four.state_dict().values(), strict=True)
    changed = [name for (name, first), second in pairs if first.shape != second.shape]
    assert changed == [f"networks.{view}.head.{kind}" for view in three.view_names for kind in ("weight", "bias")]
