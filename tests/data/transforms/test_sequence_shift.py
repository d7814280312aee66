"""Sequences move together by whole voxels; the others stay, and a seed repeats the move."""

import torch

from medssl.data.transforms.sequence_shift import RandShiftSequencesd, shift_in_plane


def _image():
    return torch.arange(3 * 5 * 4 * 2, dtype=torch.float32).reshape(3, 5, 4, 2)


def test_a_shift_moves_voxels_and_repeats_the_border():
    moved = shift_in_plane(_image(), (2, -1))
    torch.testing.assert_close(moved[:, 2:, :-1], _image()[:, :-2, 1:])
    torch.testing.assert_close(moved[:, 0, 0], _image()[:, 0, 1])
    torch.testing.assert_close(moved[:, 1], moved[:, 0])


def test_only_the_named_channels_move_and_labels_stay():
    transform = RandShiftSequencesd("image", prob=1.0, most_voxels=2)
    transform.set_random_state(seed=1)
    sample = {"image": _image(), "label": _image()[:1]}
    moved = transform(sample)
    assert transform.shift != (0, 0)
    torch.testing.assert_close(moved["image"][0], _image()[0])
    torch.testing.assert_close(moved["image"][1:], shift_in_plane(_image()[1:], transform.shift))
    torch.testing.assert_close(moved["label"], sample["label"])
    torch.testing.assert_close(sample["image"], _image())  # the cached sample is as it was


def test_a_seed_repeats_the_move_and_the_probability_holds():
    transform = RandShiftSequencesd("image", prob=0.3)
    shifts = []
    for _ in range(2):
        transform.set_random_state(seed=5)
        shifts.append([(transform.randomize(), transform._do_transform, transform.shift)[1:] for _ in range(400)])
    assert shifts[0] == shifts[1]
    assert 0.2 < sum(moved for moved, _ in shifts[0]) / 400 < 0.4
    assert {x for _, (x, _) in shifts[0]} == set(range(-4, 5))
