"""Each sequence gets a contrast of its own; order, mean and deviation of its values stay."""

import pytest
import torch
from monai.transforms import AdjustContrast

from medssl.core.errors import ConfigError
from medssl.data.transforms.sequence_gamma import RandGammaSequencesd, bend


def _image():
    image = torch.randn(3, 8, 8, 4, generator=torch.Generator().manual_seed(0))
    return image * torch.tensor([1.0, 5.0, 0.1])[:, None, None, None]  # T2W, ADC, high-b on scales of their own


def _bent(seed, **options):
    transform = RandGammaSequencesd("image", **options)
    transform.set_random_state(seed)
    return transform({"image": _image(), "label": 7}), transform.powers


@pytest.mark.parametrize("power", [0.6, 1.7])
def test_a_sequence_is_bent_as_monai_bends_an_image_of_one(power):
    image = _image()[1]
    expected = AdjustContrast(power, retain_stats=True)(image)
    torch.testing.assert_close(bend(image, power), torch.as_tensor(expected), atol=1e-4, rtol=1e-4)
    assert (bend(image, power) - image).abs().max() > 0.1


def test_mean_deviation_and_order_of_each_normalised_sequence_stay():
    image, (sample, powers) = _image(), _bent(0, prob=1.0)
    assert len(set(powers)) == 3
    for before, after in zip(image, sample["image"], strict=True):
        assert not torch.equal(before, after)
        torch.testing.assert_close(after.mean(), before.mean(), atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(after.std(), before.std(), atol=1e-5, rtol=1e-4)
        assert torch.equal(after.flatten().argsort()[[0, -1]], before.flatten().argsort()[[0, -1]])


def test_sequences_are_chosen_one_by_one_with_powers_in_range():
    drawn = [power for seed in range(100) for power in _bent(seed, prob=0.3, gamma=(0.8, 1.25))[1]]
    bent = [power for power in drawn if power != 1]
    assert 60 < len(bent) < 120
    assert 0.8 <= min(bent) < 1 < max(bent) <= 1.25


def test_the_same_state_gives_the_same_image_and_chance_zero_gives_the_image():
    assert torch.equal(_bent(3, prob=1.0)[0]["image"], _bent(3, prob=1.0)[0]["image"])
    assert torch.equal(_bent(3, prob=0.0)[0]["image"], _image())
    assert _bent(3)[0]["label"] == 7


def test_a_sequence_without_contrast_stays_and_powers_out_of_range_are_refused():
    assert torch.equal(bend(torch.full((4, 4), 2.0), 0.5), torch.full((4, 4), 2.0))
    for wrong in ((0.0, 1.0), (1.5, 0.7)):
        with pytest.raises(ConfigError, match="two powers above 0"):
            RandGammaSequencesd("image", gamma=wrong)
