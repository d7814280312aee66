"""The prepared network equals the original, and tiles are blended as MONAI blends them."""

import pytest
import torch
from monai.inferers import SlidingWindowInferer
from monai.networks.nets import UNet
from torch import nn

from medssl.core.errors import ConfigError, MedsslError
from medssl.inference import network as module
from medssl.inference.network import TileRunner, prepare_network
from medssl.inference.settings import tile_settings

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def unet():
    torch.manual_seed(0)
    norm = ("instance", {"affine": True})
    network = UNet(
        spatial_dims=3, in_channels=1, out_channels=3, channels=(4, 8), strides=(2,), num_res_units=1, norm=norm
    )
    return network.eval()


def _runner(network, inferer, **options):
    return TileRunner(prepare_network(network, CPU), tile_settings(inferer), device=CPU, **options)


def test_prepared_network_gives_the_same_scores(unet):
    image = torch.randn(2, 1, 16, 12, 10)
    prepared = prepare_network(unet, CPU)
    kinds = {type(layer).__name__ for layer in prepared.modules()}
    assert not kinds & {"InstanceNorm3d", "Conv3d"}
    torch.testing.assert_close(prepared(image), unet(image), atol=1e-4, rtol=1e-4)


def test_preparing_leaves_the_network_as_it_was(unet):
    before = [type(layer) for layer in unet.modules()]
    prepare_network(unet, CPU)
    assert [type(layer) for layer in unet.modules()] == before


@pytest.mark.parametrize("shape", [(16, 16, 16), (15, 9, 16), (17, 16, 16), (30, 23, 20)])
@pytest.mark.parametrize("mode", ["constant", "gaussian"])
@pytest.mark.parametrize("lanes", [1, 3])
def test_scores_are_those_of_monai(unet, shape, mode, lanes):
    inferer = SlidingWindowInferer(roi_size=(16, 16, 16), sw_batch_size=2, overlap=0.4, mode=mode)
    volume = torch.randn(1, *shape)
    with torch.no_grad():
        expected = inferer(volume[None], unet)[0]
    runner = _runner(unet, inferer, lanes=lanes)
    torch.testing.assert_close(runner(volume, normalised=True), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(runner(volume, normalised=False).argmax(0), runner(volume, normalised=True).argmax(0))
    runner.close()


def test_lanes_do_not_change_the_result(unet):
    inferer = SlidingWindowInferer(roi_size=(8, 8, 8), sw_batch_size=1, overlap=0.5, mode="gaussian")
    volume = torch.randn(1, 20, 18, 17)
    one, many = (_runner(unet, inferer, lanes=lanes)(volume, normalised=True) for lanes in (1, 4))
    assert torch.equal(one, many)


class _Fails(nn.Module):
    def __init__(self, error, times):
        super().__init__()
        self.error, self.times = error, times

    def forward(self, image):
        if self.times > 0:
            self.times -= 1
            raise self.error
        return image


def test_only_out_of_memory_changes_the_plan():
    inferer = SlidingWindowInferer(roi_size=(4, 4, 4), sw_batch_size=4)
    volume = torch.randn(2, 8, 8, 8)
    runner = _runner(_Fails(torch.OutOfMemoryError("no room"), times=1), inferer)
    torch.testing.assert_close(runner(volume, normalised=True), volume)
    runner = _runner(_Fails(RuntimeError("planted"), times=1), inferer)
    with pytest.raises(RuntimeError, match="planted"):
        runner(volume, normalised=True)


def test_a_tile_that_never_fits_is_a_resource_error():
    runner = _runner(_Fails(torch.OutOfMemoryError("no room"), times=9), SlidingWindowInferer(roi_size=(4, 4, 4)))
    with pytest.raises(module.ResourceError, match="4 x 4 x 4"):
        runner(torch.randn(1, 4, 4, 4), normalised=True)


class _Returns(nn.Module):
    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, image):
        return self.output(image)


def _pair(image):
    return image, image


def _nan(image):
    return image * float("nan")


@pytest.mark.parametrize(("output", "error"), [(_pair, ConfigError), (_nan, MedsslError)])
def test_a_network_that_returns_a_tuple_or_nan_is_refused(output, error):
    runner = _runner(_Returns(output), SlidingWindowInferer(roi_size=(4, 4, 4)))
    with pytest.raises(error):
        runner(torch.randn(1, 4, 4, 4), normalised=True)


@pytest.mark.parametrize("lanes", [1, 2])
def test_slices_of_a_volume_are_scored_one_by_one_as_monai_does(lanes):
    from medssl.networks import SliceUNet

    network = SliceUNet(channels=(4, 8), out_channels=3).eval()
    inferer = SlidingWindowInferer(roi_size=(8, 8, 1), sw_batch_size=3, overlap=0.25, mode="gaussian")
    volume = torch.randn(1, 11, 7, 5)
    with torch.no_grad():
        expected = inferer(volume[None], network)[0]
    runner = _runner(network, inferer, lanes=lanes)
    torch.testing.assert_close(runner(volume, normalised=True), expected, atol=1e-4, rtol=1e-4)
    runner.close()
