"""Views: turns that are balanced and can be taken back, masks within bounds, and a target that is never touched."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from medssl.methods.cswin_pretext.views import corrupt, draw_blocks, draw_turns, turn_in_plane

SHAPE = (20, 20, 8)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _patches(rows: int = 4, channels: int = 3) -> torch.Tensor:
    return torch.randn(rows, channels, *SHAPE, generator=_generator(9))


@pytest.mark.parametrize("rows", [2, 4, 6, 8])
def test_turns_are_balanced_in_each_batch_and_over_many(rows: int) -> None:
    generator, total = _generator(), Counter()
    for _ in range(400):
        turns = draw_turns(rows, generator).tolist()
        counts = [turns.count(turn) for turn in range(4)]
        assert max(counts) - min(counts) <= 1
        total.update(turns)
    assert all(abs(total[turn] / (400 * rows) - 0.25) < 0.04 for turn in range(4))


def test_a_turn_is_taken_back_by_its_complement_and_keeps_slices() -> None:
    patches, turns = _patches(), torch.tensor([0, 1, 2, 3])
    turned = turn_in_plane(patches, turns)
    torch.testing.assert_close(turn_in_plane(turned, (4 - turns) % 4), patches)
    for k in range(SHAPE[2]):  # every slice turns in its place
        torch.testing.assert_close(turned[1, :, :, :, k], patches[1, :, :, :, k].rot90(1, (1, 2)))


def test_masks_cover_what_was_drawn_and_at_most_one_box_more() -> None:
    masks = draw_blocks(200, SHAPE, _generator())
    shares = masks.flatten(1).float().mean(1)
    assert shares.max() <= 0.3 + 0.25**3 + 1e-6
    assert 0.1 < shares.mean() < 0.2
    assert masks.shape == (200, 1, *SHAPE)  # shared by the channels


@pytest.mark.parametrize("shared_blocks", [True, False])
def test_the_clean_patch_is_never_altered(shared_blocks: bool) -> None:
    clean = _patches()
    before = clean.clone()
    corrupted, changed = corrupt(clean, torch.tensor([0, 1, 0, 1]), _generator(), shared_blocks=shared_blocks)
    torch.testing.assert_close(clean, before, rtol=0, atol=0)
    same = ~changed.expand_as(clean)
    torch.testing.assert_close(corrupted[same], clean[same], rtol=0, atol=0)
    assert (corrupted != clean)[changed.expand_as(clean)].float().mean() > 0.99


def test_channels_lose_the_same_blocks_or_blocks_of_their_own() -> None:
    clean = _patches()
    lost = {}
    for shared in (True, False):
        corrupted, changed = corrupt(clean, torch.arange(4), _generator(4), shared_blocks=shared)
        assert changed.shape == (4, 1 if shared else 3, *SHAPE)
        lost[shared] = (corrupted != clean).float()
    agreement = {shared: float((each[:, :1] == each[:, 1:]).float().mean()) for shared, each in lost.items()}
    assert agreement[True] > 0.99
    assert agreement[False] < 0.9


def test_noise_stays_in_the_range_of_its_patch() -> None:
    clean = _patches() * torch.tensor([1.0, 5.0, 0.1, 2.0]).reshape(4, 1, 1, 1, 1)
    corrupted, _ = corrupt(clean, torch.zeros(4, dtype=torch.long), _generator(1))
    for before, after in zip(clean, corrupted, strict=True):
        assert before.min() <= after.min()
        assert after.max() <= before.max()


def test_foreign_voxels_come_from_another_source() -> None:
    # Constant patches: a voxel tells which patch it came from; noise of a constant patch is that constant
    clean = torch.arange(4.0).reshape(4, 1, 1, 1, 1).expand(4, 1, *SHAPE).clone()
    sources = torch.tensor([0, 1, 0, 1])
    corrupted, _ = corrupt(clean, sources, _generator(2))
    for row, source in enumerate(sources.tolist()):
        found = set(corrupted[row].unique().long().tolist()) - {row}
        assert found
        assert all(sources[other] != source for other in found)


def test_one_source_has_no_foreign_voxels_and_a_seed_repeats_all() -> None:
    clean, sources = _patches(2), torch.zeros(2, dtype=torch.long)
    first, second = (corrupt(clean, sources, _generator(3)) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)
