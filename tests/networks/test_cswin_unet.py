"""CSwin UNet: sizes, any grid, the encoder contract, and the forms in which it leaves Python."""

from __future__ import annotations

import copy
import math
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from monai.data import MetaTensor, list_data_collate

from medssl.core.errors import ConfigError
from medssl.networks import CSwinUNet, SplitNetwork
from medssl.networks.channel_dropout import draw_masks, fixed_masks
from medssl.networks.cswin_unet import SIZES, _cut
from medssl.networks.layout import with_fast_layout
from medssl.networks.pretrained import pretrained_tensors
from medssl.networks.split import check_tail_dropout, evaluation_mode
from medssl.networks.weights import transfer_weights

# One image of each family that is no multiple of any stride
_ODD = {"lines": (1, 1, 19, 17, 21), "slabs": (2, 3, 37, 33, 5)}


def _network(family: str = "lines", **options) -> CSwinUNet:
    torch.manual_seed(0)
    return CSwinUNet(in_channels=_ODD[family][1], out_channels=3, size="tiny", family=family, **options)


@pytest.fixture
def _shallow(monkeypatch: pytest.MonkeyPatch) -> None:
    """One block a stage has every operation of the network, and exports in a fraction of the time."""
    monkeypatch.setitem(SIZES, "tiny", replace(SIZES["tiny"], depths=(1, 1, 1, 1)))


@pytest.mark.parametrize("family", ["lines", "slabs"])
@pytest.mark.parametrize("place", ["last_block", "head"])
def test_logits_have_the_size_of_an_odd_image_and_every_weight_a_gradient(family: str, place: str) -> None:
    network, image = _network(family, dropout_place=place), torch.randn(_ODD[family])
    logits = network(image)
    assert logits.shape == (len(image), 3, *image.shape[2:])
    logits.square().mean().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("shape", [(1, 3, 40, 33, 1), (1, 3, 33, 64, 2), (2, 3, 48, 34, 7)])
def test_few_slices_are_kept_one_by_one(shape: tuple[int, ...]) -> None:
    network = _network("slabs").eval()
    with torch.no_grad():
        features = network.encode(torch.randn(shape))
        assert network.tail(network.decode(features)).shape == (shape[0], 3, *shape[2:])
    depths = [feature.shape[4] for feature in features]
    assert depths == [shape[4]] * 4 + [-(-shape[4] // 2), -(-shape[4] // 4)]


def test_a_map_cut_back_lies_on_the_grid_it_came_from() -> None:
    grid = torch.arange(5.0 * 7 * 3).view(1, 1, 5, 7, 3)
    # Every second voxel, as a step of 2 keeps them, and each spread over the two voxels that it stands for
    enlarged = grid[..., ::2, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3).repeat_interleave(2, 4)
    back = _cut(enlarged, grid)
    assert back.shape == grid.shape
    assert torch.equal(back[..., ::2, ::2, ::2], grid[..., ::2, ::2, ::2])


@pytest.mark.parametrize("family", ["lines", "slabs"])
def test_it_keeps_the_encoder_contract(family: str) -> None:
    network, image = _network(family).eval(), torch.randn(_ODD[family])
    assert isinstance(network, SplitNetwork)
    check_tail_dropout(network)
    with torch.no_grad():
        features = network.encode(image)
        assert torch.equal(network.tail(network.decode(features)), network(image))
    assert [feature.shape[1] for feature in features[-4:]] == list(SIZES["tiny"].dims)
    assert [-(-size // step) for size, step in zip(image.shape[2:], network.strides, strict=True)] == list(
        features[-1].shape[2:]
    )


@pytest.mark.parametrize("place", ["last_block", "head"])
def test_the_tail_repeated_over_a_batch_equals_full_passes_with_the_same_masks(place: str) -> None:
    network, image = _network(dropout_place=place), torch.randn(_ODD["lines"])
    masks = draw_masks(network, 2, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), evaluation_mode(network):
        with fixed_masks(network, masks):
            batched = network.tail(network.decode(network.encode(image)))
        for k in range(2):
            with fixed_masks(network, [mask[k : k + 1] for mask in masks]):
                assert torch.allclose(network(image), batched[k : k + 1], atol=1e-5)
    assert not torch.allclose(batched[0], batched[1], atol=1e-3)


def test_the_trunk_is_the_same_in_training_mode_unless_paths_are_dropped() -> None:
    image = torch.randn(_ODD["lines"])
    for rate in (0.0, 0.9):
        network = _network(drop_path_rate=rate).train()
        with torch.no_grad():
            once, again = (network.decode(network.encode(image)) for _ in range(2))
        assert torch.equal(once, again) is (rate == 0.0)


def test_logits_of_two_more_levels_are_returned_in_training_only() -> None:
    network, image = _network(deep_supervision=True), torch.randn(1, 1, 32, 32, 32)
    shapes = [tuple(logits.shape[1:]) for logits in network.train()(image)]
    assert shapes == [(3, 32, 32, 32), (3, 16, 16, 16), (3, 8, 8, 8)]
    assert network.eval()(image).shape == (1, 3, 32, 32, 32)


def test_blocks_computed_again_give_the_same_gradients() -> None:
    image = torch.randn(_ODD["lines"])
    kept, again = (_network(checkpoint_blocks=flag, dropout_rate=0.0) for flag in (False, True))
    for network in (kept, again):
        network(image).square().mean().backward()
    for one, other in zip(kept.parameters(), again.parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-6)


def _saved_bytes(network: CSwinUNet, image: torch.Tensor) -> int:
    storages: dict[int, torch.UntypedStorage] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        logits = network(image)
    assert logits.requires_grad
    parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    return sum(storage.nbytes() for place, storage in storages.items() if place not in parameters)


@pytest.mark.parametrize("slab_depth", [0, 4])
def test_memory_grows_linearly_with_the_number_of_slices(slab_depth: int) -> None:
    network = _network("slabs", slab_depth=slab_depth)
    at_8, at_16, at_32 = (_saved_bytes(network, torch.randn(1, 3, 64, 64, depth)) for depth in (8, 16, 32))
    assert (at_32 - at_16) / (at_16 - at_8) == pytest.approx(2.0, rel=0.02)


def test_recomputed_blocks_keep_less() -> None:
    image = torch.randn(1, 1, 32, 32, 32)
    assert _saved_bytes(_network(checkpoint_blocks=True), image) < 0.8 * _saved_bytes(_network(), image)


@pytest.mark.usefixtures("_shallow")
@pytest.mark.parametrize("family", ["lines", "slabs"])
def test_a_trace_equals_the_network(family: str) -> None:
    network, image = _network(family).eval(), torch.randn(_ODD[family])
    with torch.no_grad():
        traced = torch.jit.trace(network, image, check_trace=False)
        other = torch.randn_like(image)
        assert torch.allclose(traced(other), network(other), atol=1e-5)


@pytest.mark.usefixtures("_shallow")
@pytest.mark.slow  # the exporter takes a minute for either
@pytest.mark.parametrize("family", ["lines", "slabs"])
def test_onnx_computes_the_same_to_1e_4(family: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    network, image = _network(family).eval(), torch.randn(_ODD[family])
    program = torch.onnx.export(network, (image,), input_names=["image"], opset_version=20, dynamo=True, verbose=False)
    program.save(str(tmp_path / "model.onnx"))
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    found = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
    with torch.no_grad():
        assert (found - network(image)).abs().max() < 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("_shallow")
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler on a CPU")
def test_compiled_it_computes_the_same() -> None:
    network, image = _network("slabs").eval(), torch.randn(_ODD["slabs"])
    with torch.no_grad():
        assert torch.allclose(torch.compile(network)(image), network(image), atol=1e-4)


@pytest.mark.usefixtures("_shallow")
def test_a_compiler_that_runs_the_graph_as_it_is_finds_no_break() -> None:
    network, image = _network("slabs").eval(), torch.randn(_ODD["slabs"])
    whole = torch.compile(network, backend="eager", fullgraph=True)
    with torch.no_grad():
        assert torch.allclose(whole(image), network(image), atol=1e-5)


@pytest.mark.parametrize("family", ["lines", "slabs"])
def test_the_layout_of_weights_changes_neither_logits_nor_gradients(family: str) -> None:
    plain, image = _network(family, dropout_rate=0.0), torch.randn(_ODD[family])
    laid_out = with_fast_layout(copy.deepcopy(plain))
    logits = [network(image) for network in (plain, laid_out)]
    torch.testing.assert_close(logits[1], logits[0], atol=1e-4, rtol=1e-4)
    for each in logits:
        each.square().mean().backward()
    for one, other in zip(laid_out.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=0.01, atol=0.01 * float(other.grad.abs().max()))


def test_an_encoder_for_one_channel_feeds_one_for_three() -> None:
    one, three = _network("lines"), CSwinUNet(in_channels=3, out_channels=3, size="tiny")
    report = transfer_weights(three, one.state_dict())
    assert report.match == 1.0
    assert "stem.0.0.weight" in report.reshaped


@pytest.mark.parametrize(
    ("size", "lines", "slabs"),
    [("tiny", 3984494, 4046822), ("small", 15826202, 16070666), ("base", 63081266, 64049426)],
)
def test_sizes_are_those_of_the_table(size: str, lines: int, slabs: int) -> None:
    for family, channels, expected in (("lines", 1, lines), ("slabs", 3, slabs)):
        with torch.device("meta"):
            network = CSwinUNet(in_channels=channels, size=size, family=family)
        assert sum(parameter.numel() for parameter in network.parameters()) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": "huge"}, "tiny, small, base"),
        ({"family": "planes"}, '"lines" or "slabs", got \'planes\''),
        ({"stripes": (1, 2, 4)}, "expected 4 widths"),
        ({"slab_depth": 4}, "which has no slabs"),
        ({"out_channels": 0}, "1 or more classes, got 0"),
        ({"drop_path_rate": 1.5}, "a probability below 1, got 1.5"),
        ({"dims": (24, 48)}, "dims: expected 4 numbers"),
        ({"outer_channels": (8, 0)}, "outer_channels: expected 2 numbers from 1"),
        ({"dropout_place": "stem"}, '"last_block" or "head"'),
        ({"strides": [[2, 2, 2]] * 3}, "strides: expected 4 or 5 steps"),
        ({"strides": [[2, 2, 2]] * 6}, "strides: expected 4 or 5 steps"),
        ({"strides": [[2, 2]] * 4}, "steps of three numbers"),
        ({"strides": [[2, 2, 2]] * 3 + [[4, 4, 2]]}, "from 1 to 2, before the first stage to 4"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        CSwinUNet(**options)


def test_widths_depths_and_heads_can_be_chosen_one_by_one() -> None:
    network = _network(dims=(12, 24, 24, 48), depths=(1, 2, 1, 1), heads=(3, 3, 6, 6), outer_channels=(4, 8))
    features = network.encode(torch.randn(_ODD["lines"]))
    assert [feature.shape[1] for feature in features[1:]] == [12, 24, 24, 48]
    assert [len(blocks) for blocks in network.stages] == [1, 2, 1, 1]
    assert [blocks[0].attention.heads for blocks in network.stages] == [1, 1, 2, 6]
    assert network.head.in_channels == 4


_ONE_STEP = [[4, 4, 1], [2, 2, 1], [2, 2, 2], [2, 2, 2]]
_OF_A_SWIN_UNETR = [[2, 2, 1], [2, 2, 2], [2, 2, 2], [2, 2, 1]]


@pytest.mark.parametrize("strides", [_ONE_STEP, _OF_A_SWIN_UNETR])
def test_strides_can_be_chosen_and_odd_sizes_still_fit(strides: list[list[int]]) -> None:
    network, image = _network("slabs", strides=strides).eval(), torch.randn(1, 3, 69, 66, 11)
    assert network.strides == tuple(math.prod(step[axis] for step in strides) for axis in range(3))
    with torch.no_grad():
        features, logits = network.encode(image), network(image)
    assert logits.shape[2:] == image.shape[2:]
    first = [-(-size // side) for size, side in zip(image.shape[2:], strides[0], strict=True)]
    assert list(features[1].shape[2:]) == first


def test_every_voxel_reaches_the_first_stage_over_a_step_of_four() -> None:
    network = _network("slabs", strides=_ONE_STEP)
    image = torch.randn(1, 3, 32, 32, 4, requires_grad=True)
    network.stem[0][0](image).abs().sum().backward()
    assert bool((image.grad != 0).all())


def test_the_strides_of_a_family_are_those_without_the_option() -> None:
    torch.manual_seed(0)
    plain = _network("slabs")
    torch.manual_seed(0)
    chosen = _network("slabs", strides=[[2, 2, 1]] * 3 + [[2, 2, 2]] * 2)
    assert all(torch.equal(one, other) for one, other in zip(plain.parameters(), chosen.parameters(), strict=True))


def test_paths_are_dropped_more_often_the_deeper_they_lie() -> None:
    rates = [block.drop_path_rate for blocks in _network(drop_path_rate=0.24).stages for block in blocks]
    assert rates == pytest.approx([0.24 * index / 12 for index in range(13)])


def test_an_image_that_is_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"\[8, 8, 8\] voxels is too small for strides \(16, 16, 16\)"):
        _network()(torch.randn(1, 1, 8, 8, 8))
    with pytest.raises(ConfigError, match="is too small"):
        _network()(torch.randn(1, 1, 2, 2, 1))


@pytest.mark.parametrize("family", ["lines", "slabs"])
def test_decoder_blocks_are_those_of_the_whole_network(family):
    torch.manual_seed(0)
    network = CSwinUNet(in_channels=2, size="tiny", family=family, dropout_place="last_block").eval()
    with torch.inference_mode():
        features = network.encode(torch.randn(1, 2, 36, 32, 12))
        maps = network._decode(features)
        for blocks in range(network.decoder_depth + 1):
            torch.testing.assert_close(network.decode_blocks(features, blocks), maps[blocks])


def test_pretrained_parts_cover_all_but_the_last_level_and_the_head():
    network = CSwinUNet(size="tiny")
    names = set(pretrained_tensors(network, network.decoder_depth))
    last = len(network.up) - 1
    left = {name for name in network.state_dict() if name not in names}
    assert {name.split(".")[0] for name in left} == {"skip", "up", "blocks", "head"}
    assert all(name.split(".")[1] == str(last) for name in left if name.startswith(("up", "blocks")))


def test_the_output_layer_can_start_from_a_prior():
    torch.manual_seed(0)
    network = CSwinUNet(size="tiny", family="slabs", out_channels=3, foreground_prior=0.01).eval()
    with torch.inference_mode():
        foreground = network(torch.randn(1, 1, 32, 32, 8)).softmax(1)[:, 1:].sum(1)
    assert 0.003 < foreground.median() < 0.03
    deep = CSwinUNet(size="tiny", family="slabs", out_channels=3, foreground_prior=0.01, deep_supervision=True)
    assert len(deep.side_heads) == 2
    assert all(torch.equal(head.bias, network.head.bias) for head in (deep.head, *deep.side_heads))
    with pytest.raises(ConfigError, match="foreground_prior"):
        CSwinUNet(size="tiny", foreground_prior=0.0)


@pytest.mark.parametrize(("family", "shape"), [("lines", (40, 40, 40)), ("slabs", (40, 40, 8))])
def test_a_batch_of_monais_tensors_gives_the_same_and_keeps_its_meta_data(family, shape):
    torch.manual_seed(0)
    network = CSwinUNet(size="tiny", family=family, dropout_rate=0.0, deep_supervision=True)
    plain = torch.randn(2, 1, *shape)
    scans = list_data_collate([MetaTensor(each, affine=2 * torch.eye(4)) for each in plain])
    for mode in (network.train(), network.eval()):
        expected, found = mode(plain), mode(scans)
        for one, other in zip(expected, found, strict=True):
            assert torch.equal(one, other.as_subclass(torch.Tensor))
    assert isinstance(found, MetaTensor)
    assert torch.equal(found[1].affine.float(), 2 * torch.eye(4))
    features = network.encode(scans)
    assert {type(each) for each in features} == {torch.Tensor}
    network.train()(scans)[0].square().mean().backward()
    assert network.head.weight.grad.isfinite().all()
