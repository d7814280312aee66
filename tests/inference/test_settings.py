"""What the runner understands of a bundle, and what it refuses instead of guessing."""

import pytest
from monai.inferers import SimpleInferer, SliceInferer, SlidingWindowInferer
from monai.transforms import (
    Activationsd,
    AsDiscreted,
    Compose,
    EnsureChannelFirstd,
    Invertd,
    KeepLargestConnectedComponentd,
    LoadImaged,
    RandFlipd,
    Rotate90d,
    SaveImaged,
    Spacingd,
)

from medssl.core.errors import ConfigError
from medssl.inference.settings import mirrored_axes, output_rule, preprocessing_steps, tile_settings

PRE = Compose([LoadImaged(keys="image")])


def _post(*, activation=None, discrete=None, nearest=False, after=()):
    activation = activation or Activationsd(keys="pred", softmax=True)
    invert = Invertd(keys="pred", transform=PRE, orig_keys="image", nearest_interp=nearest)
    discrete = discrete or AsDiscreted(keys="pred", argmax=True)
    return Compose([activation, invert, discrete, *after, SaveImaged(keys="pred")])


def test_sliding_window_is_taken_over():
    tiles = tile_settings(SlidingWindowInferer(roi_size=(8, 9, 10), overlap=0.25, sw_batch_size=3, mode="gaussian"))
    assert (tiles.roi_size, tiles.overlap, tiles.batch_size) == ((8, 9, 10), (0.25,) * 3, 3)
    assert tiles.mode == "gaussian"


def test_simple_inferer_is_one_tile():
    assert tile_settings(SimpleInferer()).roi_size == (0, 0, 0)


def test_other_inferers_are_refused():
    with pytest.raises(ConfigError, match="SliceInferer"):
        tile_settings(SliceInferer(roi_size=(8, 8)))


def test_softmax_argmax_and_cleaning_are_understood():
    rule = output_rule(_post(after=[KeepLargestConnectedComponentd(keys="pred", applied_labels=[1])]))
    assert (rule.activation, rule.decision.threshold, len(rule.cleaners)) == ("softmax", None, 1)


def test_sigmoid_and_threshold_are_understood():
    activation, discrete = Activationsd(keys="pred", sigmoid=True), AsDiscreted(keys="pred", threshold=0.4)
    rule = output_rule(_post(activation=activation, discrete=discrete))
    assert (rule.activation, rule.decision.threshold) == ("sigmoid", 0.4)


@pytest.mark.parametrize(
    "post",
    [
        _post(nearest=True),
        _post(activation=Activationsd(keys="pred", other=abs)),
        _post(discrete=AsDiscreted(keys="pred", argmax=True, to_onehot=3)),
        _post(discrete=AsDiscreted(keys="pred")),
        _post(after=[Rotate90d(keys="pred")]),
        Compose([AsDiscreted(keys="pred", argmax=True)]),
    ],
)
def test_postprocessing_beyond_the_runner_is_refused_with_the_stock_command(post):
    with pytest.raises(ConfigError, match=r"python -m monai\.bundle run"):
        output_rule(post)


@pytest.mark.parametrize(
    ("transforms", "named"),
    [
        ([EnsureChannelFirstd(keys="image")], "LoadImaged"),
        ([LoadImaged(keys="image"), Rotate90d(keys="image")], "Rotate90d"),
        ([LoadImaged(keys="image"), RandFlipd(keys="image", prob=1)], "RandFlipd"),
        ([LoadImaged(keys="image"), Spacingd(keys="image", pixdim=1, mode="nearest")], "bilinear"),
        ([LoadImaged(keys=["image", "label"])], "label"),
    ],
)
def test_preprocessing_that_cannot_be_taken_back_is_refused(transforms, named):
    with pytest.raises(ConfigError, match=named):
        preprocessing_steps(Compose(transforms))


def test_axes_to_mirror_are_read_strictly():
    assert mirrored_axes(None) == mirrored_axes([]) == ()
    assert mirrored_axes([0, 1]) == ((0,), (1,), (0, 1))
    for wrong in (0, [3], [0, 0], [True], ["x"], "0"):
        with pytest.raises(ConfigError, match="flip_axes: expected a list of different axes"):
            mirrored_axes(wrong)
