"""Cross-shaped attention against a plain reference: full attention under masks of the stripes, voxel by voxel."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch.nn.functional import conv3d

from medssl.core.errors import ConfigError
from medssl.networks import cswin_attention
from medssl.networks.cswin_attention import CrossShapedAttention, CrossShapedBlock, stripe_windows

# family, stripe, slab depth, extent of the map: exact, padded, clamped, one slice, full attention
_FORMS = [
    ("lines", 1, 0, (4, 3, 5)),
    ("lines", 2, 0, (4, 6, 2)),
    ("lines", 2, 0, (5, 3, 7)),
    ("lines", 4, 0, (3, 6, 5)),
    ("slabs", 1, 4, (2, 3, 9)),
    ("slabs", 1, 4, (2, 3, 10)),
    ("slabs", 1, 0, (4, 5, 3)),
    ("slabs", 2, 0, (5, 7, 3)),
    ("slabs", 2, 2, (5, 4, 3)),
    ("slabs", 3, 0, (6, 4, 1)),
    ("lines", 0, 0, (3, 2, 4)),
    ("slabs", 0, 0, (3, 2, 4)),
]


def _attention(family: str, stripe: int, slab_depth: int = 0, *, seed: int = 0) -> CrossShapedAttention:
    torch.manual_seed(seed)
    windows = stripe_windows(family, stripe=stripe, slab_depth=slab_depth)
    return CrossShapedAttention(12, windows=windows, heads=6).double()


def _stripe_of(index: tuple[int, ...], window: tuple[int, ...], extent: tuple[int, ...]) -> tuple[int, ...]:
    """Return the number of the stripe of a token, counted from a map padded on both sides."""
    numbers = []
    for place, side, size in zip(index, window, extent, strict=True):
        count = 1 if side == 0 else math.ceil(size / side)
        side = math.ceil(size / count)
        numbers.append((place + (-size % side) // 2) // side)
    return tuple(numbers)


def _reference(attention: CrossShapedAttention, volume: torch.Tensor) -> torch.Tensor:
    """Full attention among all tokens under masks, and a depthwise convolution of each masked volume."""
    extent = volume.shape[1:-1]
    places = list(itertools.product(*(range(size) for size in extent)))
    groups = []
    for number, window in enumerate(attention.windows):
        stripes = [_stripe_of(place, window, tuple(extent)) for place in places]
        together = torch.tensor([[one == other for other in stripes] for one in stripes])
        part = attention.qkv(volume).split(3 * attention.width, -1)[number]
        query, key, value = part.flatten(1, 3).unflatten(-1, (3, attention.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5
        seen = scores.masked_fill(~together, -torch.inf).softmax(-1) @ value
        groups.append(seen.transpose(1, 2).flatten(2) + _reference_lepe(attention, number, part, stripes))
    return attention.proj(torch.cat(groups, -1).unflatten(1, tuple(extent)))


def _reference_lepe(attention: CrossShapedAttention, number: int, part: torch.Tensor, stripes: list) -> torch.Tensor:
    value = part[..., 2 * attention.width :].movedim(-1, 1)
    lepe = attention.lepe[number]
    total = torch.zeros_like(value).flatten(2)
    for stripe in set(stripes):
        inside = torch.tensor([one == stripe for one in stripes]).double()
        alone = value * inside.view(value.shape[2:])  # zeros outside the stripe, as if the volume ended there
        found = conv3d(alone, _kernel(lepe), lepe.convolution.bias, padding="same", groups=attention.width)
        total += found.flatten(2) * inside
    return total.transpose(1, 2)


def _kernel(lepe: torch.nn.Module) -> torch.Tensor:
    """Return the weight with its axes in the order of the map's."""
    weight = lepe.convolution.weight
    return weight.transpose(2, 4) if lepe.turned else weight


@pytest.mark.parametrize(("family", "stripe", "slab_depth", "extent"), _FORMS)
def test_stripes_equal_full_attention_under_masks(family, stripe, slab_depth, extent) -> None:
    attention = _attention(family, stripe, slab_depth)
    volume = torch.randn(2, *extent, 12, dtype=torch.float64)
    with torch.no_grad():
        assert (attention(volume) - _reference(attention, volume)).abs().max() < 1e-10


@pytest.mark.parametrize(("family", "stripe", "slab_depth", "extent"), _FORMS)
def test_lepe_equals_a_convolution_that_ends_at_the_stripe(family, stripe, slab_depth, extent) -> None:
    attention = _attention(family, stripe, slab_depth)
    volume = torch.randn(1, *extent, 12, dtype=torch.float64)
    places = list(itertools.product(*(range(size) for size in extent)))
    for number, window in enumerate(attention.windows):
        part = attention.qkv(volume).split(3 * attention.width, -1)[number]
        stripes = [_stripe_of(place, window, extent) for place in places]
        with_lepe = cswin_attention._attend(part, window, attention.heads, attention.lepe[number])
        without = cswin_attention._attend(part, window, attention.heads, torch.zeros_like)
        expected = _reference_lepe(attention, number, part, stripes)
        assert torch.allclose((with_lepe - without).flatten(1, 3), expected, atol=1e-12)


def test_lepe_of_the_map_is_one_convolution_that_stripes_do_not_end() -> None:
    torch.manual_seed(0)
    attention = CrossShapedAttention(12, windows=stripe_windows("lines", stripe=2), heads=6, lepe="map").double()
    volume = torch.randn(1, 5, 3, 7, 12, dtype=torch.float64)
    expected = []
    for number, part in enumerate(attention.qkv(volume).split(3 * attention.width, -1)):
        found = _reference_lepe(attention, number, part, [0] * (5 * 3 * 7))
        seen = cswin_attention._attend(part, attention.windows[number], attention.heads)
        expected.append(seen + found.unflatten(1, (5, 3, 7)))
    assert torch.allclose(attention(volume), attention.proj(torch.cat(expected, -1)), atol=1e-12)


def test_padded_keys_take_their_share_if_they_are_not_masked() -> None:
    qkv = torch.randn(1, 1, 1, 3, 6, dtype=torch.float64)
    query, key, value = qkv[0, 0, 0].split(2, -1)
    zero = torch.zeros(1, 2, dtype=torch.float64)
    scores = query @ torch.cat([key, zero]).T * 2**-0.5
    # Three tokens fill up two stripes of two: the third is alone with a token of zeros
    together = torch.tensor([[True, True, False, False]] * 2 + [[False, False, True, True]])
    expected = scores.masked_fill(~together, -torch.inf).softmax(-1) @ torch.cat([value, zero])
    seen = cswin_attention._attend(qkv, (1, 1, 2), 1, mask_padding=False)
    assert torch.allclose(seen[0, 0, 0], expected, atol=1e-12)


@pytest.mark.parametrize(("family", "extent"), [("lines", (7, 5, 6)), ("slabs", (7, 6, 4))])
def test_a_change_in_one_stripe_leaves_the_others_of_its_group_untouched(family, extent) -> None:
    attention = _attention(family, 2)
    volume = torch.randn(1, *extent, 12, dtype=torch.float64)
    changed = volume.clone()
    changed[0, 3, 2, 1] += 1.0
    for number, window in enumerate(attention.windows):
        parts = [attention.qkv(each).split(3 * attention.width, -1)[number] for each in (volume, changed)]
        one, other = (cswin_attention._attend(part, window, attention.heads, attention.lepe[number]) for part in parts)
        for place in itertools.product(*(range(size) for size in extent)):
            same_stripe = _stripe_of(place, window, extent) == _stripe_of((3, 2, 1), window, extent)
            assert torch.equal(one[0][place], other[0][place]) is not same_stripe


@pytest.mark.parametrize("family", ["lines", "slabs"])
def test_one_block_reaches_exactly_the_cross(family) -> None:
    attention, extent, middle = _attention(family, 1), (5, 4, 3), (2, 1, 1)
    volume = torch.randn(1, *extent, 12, dtype=torch.float64, requires_grad=True)
    attention(volume)[(0, *middle)].square().sum().backward()
    reached = volume.grad[0].abs().sum(-1) > 0
    for place in itertools.product(*(range(size) for size in extent)):
        same = [one == other for one, other in zip(place, middle, strict=True)]
        expected = sum(same) >= 2 if family == "lines" else same[0] or same[1]
        assert bool(reached[place]) is expected


def test_what_stands_in_padded_tokens_does_not_matter(monkeypatch) -> None:
    attention = _attention("lines", 2)
    volume = torch.randn(1, 5, 3, 7, 12, dtype=torch.float64)
    expected = _keys_only(attention, volume)
    real_pad = cswin_attention.pad
    # Other padding than zeros, for everything but the mask
    monkeypatch.setattr(
        cswin_attention,
        "pad",
        lambda tensor, around: real_pad(tensor, around, value=0.0 if tensor.dtype == torch.bool else 9.0),
    )
    assert torch.allclose(_keys_only(attention, volume), expected, atol=1e-12)


def _keys_only(attention: CrossShapedAttention, volume: torch.Tensor) -> torch.Tensor:
    parts = attention.qkv(volume).split(3 * attention.width, -1)
    with torch.no_grad():
        seen = [
            cswin_attention._attend(part, window, attention.heads, torch.zeros_like)
            for part, window in zip(parts, attention.windows, strict=True)
        ]
    return torch.cat(seen, -1)


def test_swapping_two_axes_with_their_groups_swaps_the_output() -> None:
    attention, swapped = _attention("slabs", 1), _attention("slabs", 1, seed=1)
    state = attention.state_dict()
    order = torch.tensor([*range(18, 36), *range(18)])  # q, k, v of the second group first
    state["qkv.weight"], state["qkv.bias"] = state["qkv.weight"][order], state["qkv.bias"][order]
    state["proj.weight"] = torch.cat([state["proj.weight"][:, 6:], state["proj.weight"][:, :6]], 1)
    swapped.load_state_dict(state)
    with torch.no_grad():
        for old, new in zip(attention.lepe, reversed(swapped.lepe), strict=True):
            _kernel(new).copy_(_kernel(old).transpose(2, 3))
            new.convolution.bias.copy_(old.convolution.bias)
    volume = torch.randn(1, 4, 5, 3, 12, dtype=torch.float64)
    assert torch.allclose(swapped(volume.transpose(1, 2)), attention(volume).transpose(1, 2), atol=1e-12)


def test_many_windows_are_attended_in_several_calls_with_the_same_result(monkeypatch) -> None:
    attention = _attention("lines", 2)
    volume = torch.randn(2, 5, 6, 4, 12, dtype=torch.float64)
    expected = attention(volume)
    monkeypatch.setattr(cswin_attention, "_LARGEST_BATCH", 7)
    assert torch.allclose(attention(volume), expected, atol=1e-12)


def test_bfloat16_stays_finite() -> None:
    attention = _attention("slabs", 2).bfloat16()
    assert attention(torch.randn(1, 5, 4, 3, 12).bfloat16()).isfinite().all()


def _saved_bytes(depth: int) -> int:
    """Bytes of all tensors that one block keeps for its backward pass."""
    block = CrossShapedBlock(12, windows=stripe_windows("slabs", stripe=1), heads=6)
    storages: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    parameters = {parameter.untyped_storage().data_ptr() for parameter in block.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        kept = block(torch.randn(1, 8, 8, depth, 12))
    assert kept.requires_grad
    return sum(size for place, size in storages.items() if place not in parameters)


def test_memory_grows_linearly_with_depth_in_slabs() -> None:
    at_16, at_32, at_64 = (_saved_bytes(depth) for depth in (16, 32, 64))
    assert (at_64 - at_32) / (at_32 - at_16) == pytest.approx(2.0, rel=0.05)
    assert at_64 / at_32 == pytest.approx(2.0, rel=0.05)


def test_drop_path_skips_whole_samples_in_training_only() -> None:
    block = CrossShapedBlock(12, windows=stripe_windows("lines", stripe=1), heads=6, drop_path_rate=0.999)
    volume = torch.randn(4, 2, 2, 2, 12)
    torch.manual_seed(0)
    assert torch.equal(block(volume), volume)
    assert not torch.allclose(block.eval()(volume), volume)


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match="multiple of the 3 groups and divide 12 channels, got 4"):
        CrossShapedAttention(12, windows=stripe_windows("lines", stripe=1), heads=4)
    with pytest.raises(ConfigError, match="window"):
        CrossShapedAttention(12, windows=stripe_windows("lines", stripe=1), heads=6, lepe="stripe")


def test_an_unknown_family_and_negative_stripes_are_refused() -> None:
    with pytest.raises(ConfigError, match='"lines" or "slabs", got \'planes\''):
        stripe_windows("planes", stripe=1)
    with pytest.raises(ConfigError, match="0 or more tokens, got -1 and 0"):
        stripe_windows("lines", stripe=-1)
