"""What is loaded into a network, what is not, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import nn

from medssl.core.errors import CheckpointError
from medssl.networks.weights import LoadReport, inflate_kernel, read_weights, transfer_weights


def _net(channels: int = 1, classes: int = 2) -> nn.Sequential:
    return nn.Sequential(nn.Conv3d(channels, 4, 3), nn.Conv3d(4, 4, 3), nn.Conv3d(4, classes, 1))


def test_equal_networks_share_every_tensor() -> None:
    source, target = _net(), _net()
    report = transfer_weights(target, source.state_dict())
    assert len(report.loaded) == 6
    assert report.match == 1.0
    assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))


def test_a_new_head_keeps_its_own_values_and_is_listed() -> None:
    source, target = _net(classes=2), _net(classes=5)
    head = target[2].weight.clone()
    report = transfer_weights(target, source.state_dict(), minimum_match=0.5)
    assert torch.equal(target[2].weight, head)
    assert report.skipped[0] == "2.weight: (2, 4, 1, 1, 1) in the file, (5, 4, 1, 1, 1) here"


def test_equal_channels_give_what_one_channel_gave() -> None:
    source, target = _net(channels=1), _net(channels=3)
    report = transfer_weights(target, source.state_dict())
    image = torch.randn(1, 1, 7, 7, 7)
    assert report.reshaped == ["0.weight"]
    assert torch.allclose(source(image), target(image.expand(-1, 3, -1, -1, -1)), atol=1e-5)


def test_too_few_matches_are_refused_and_change_nothing() -> None:
    target = _net()
    before = [parameter.clone() for parameter in target.parameters()]
    state = {f"module.{name}": tensor for name, tensor in _net().state_dict().items()}
    with pytest.raises(CheckpointError, match=r"fill 0 of 6 .* 'module\.0\.bias'"):
        transfer_weights(target, state)
    assert all(torch.equal(a, b) for a, b in zip(before, target.parameters(), strict=True))


def test_a_prefix_is_removed_on_reading(tmp_path: Path) -> None:
    torch.save({f"module.{n}": t for n, t in _net().state_dict().items()}, tmp_path / "model.pt")
    state = read_weights(tmp_path / "model.pt", strip_prefix="module.")
    assert transfer_weights(_net(), state).match == 1.0


class _Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_pickle_that_carries_code_is_refused_and_not_run(tmp_path: Path) -> None:
    torch.save({"weight": _Hostile(tmp_path / "was_run")}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="more than tensors"):
        read_weights(tmp_path / "model.pt")
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("content", [{"a": 1}, {}, [torch.zeros(1)]])
def test_files_that_are_no_state_dict_are_refused(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"model\.pt"):
        read_weights(tmp_path / "model.pt")


def test_missing_and_broken_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such weights file"):
        read_weights(tmp_path / "none.pt")
    (tmp_path / "half.pt").write_bytes(b"PK\x03\x04 half")
    with pytest.raises(CheckpointError, match=r"half\.pt"):
        read_weights(tmp_path / "half.pt")


def test_a_2d_kernel_becomes_an_n_x_n_x_1_one() -> None:
    source, target = nn.Conv2d(4, 6, 3), nn.Conv3d(4, 6, (3, 3, 1))
    report = transfer_weights(target, source.state_dict())
    volume = torch.randn(1, 4, 5, 5, 7)
    assert report.inflated == ["weight"]
    assert report.match == 1.0
    slices = torch.stack([source(volume[..., k]) for k in range(7)], dim=-1)
    assert torch.allclose(target(volume), slices, atol=1e-6)


def test_colours_become_depth_taps_so_that_a_grey_slice_gives_the_same() -> None:
    kernel = torch.randn(6, 3, 7, 7)
    stem = nn.Conv3d(1, 6, (7, 7, 3), bias=False)
    stem.weight.data = inflate_kernel(kernel, tuple(stem.weight.shape))
    grey = torch.randn(1, 1, 9, 9)
    expected = torch.nn.functional.conv2d(grey.expand(-1, 3, -1, -1), kernel)
    assert torch.equal(stem.weight[:, 0, :, :, 2], kernel[:, 2])
    assert torch.allclose(stem(grey[..., None].expand(-1, -1, -1, -1, 3))[..., 0], expected, atol=1e-4)


def test_a_kernel_of_one_channel_goes_to_the_middle_tap_and_is_shared_by_channels() -> None:
    kernel = torch.randn(6, 1, 3, 3)
    inflated = inflate_kernel(kernel, (6, 2, 3, 3, 3))
    assert torch.equal(inflated[..., 1], kernel.expand(-1, 2, -1, -1) / 2)
    assert inflated[..., [0, 2]].abs().max() == 0


@pytest.mark.parametrize("shape", [(5, 1, 3, 3, 1), (6, 1, 5, 3, 1), (6, 2, 3, 3, 3), (6, 3, 3, 3)])
def test_kernels_that_do_not_fit_are_not_inflated(shape: tuple[int, ...]) -> None:
    assert inflate_kernel(torch.randn(6, 4, 3, 3), shape) is None


def test_running_statistics_are_not_missed_where_a_layer_keeps_none() -> None:
    source = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)).state_dict()
    target = nn.Sequential(nn.Conv3d(1, 4, (3, 3, 1)), nn.InstanceNorm3d(4, affine=True))
    assert transfer_weights(target, source, use_all=True).match == 1.0
    for wrong in ({"2.running_mean": torch.zeros(4)}, {"1.other": torch.zeros(4)}):
        with pytest.raises(CheckpointError, match="1 do not"):
            transfer_weights(target, source | wrong, use_all=True)
    bare = nn.Sequential(nn.Conv3d(1, 4, (3, 3, 1)))  # no such layer at all
    with pytest.raises(CheckpointError, match="5 do not"):
        transfer_weights(bare, source, use_all=True)


def test_reports_of_parts_are_joined_under_their_names() -> None:
    state = _net().state_dict()
    joined = LoadReport()
    for name in ("a", "b"):
        joined.add(transfer_weights(_net(), {**state, "fc.bias": torch.zeros(1)}), prefix=name)
    assert joined.loaded[0] == "a.0.weight"
    assert len(joined.loaded) == 12
    assert joined.unexpected == ["fc.bias"]
