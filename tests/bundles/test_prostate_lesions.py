"""What is peculiar to the bundle for prostate lesions: its configurations agree on how its sequences are treated."""

import shutil

import pytest
import torch
from monai.bundle import ConfigParser

from medssl.bundle.catalog import shipped_bundles
from medssl.bundle.inherit import write_inherited
from medssl.bundle.resolve import load_config

BUNDLE = shipped_bundles()["prostate_mri_lesion_cswin_unet"]
KEEP_ADC = {"intensity_mean": [None, 0, None], "intensity_deviation": [None, 1, None]}

everywhere = pytest.mark.parametrize(
    ("files", "part"),
    [
        (("train",), "train::preprocessing"),
        (("train",), "validate::preprocessing"),
        (("train", "evaluate"), "validate::preprocessing"),
        (("pretrain",), "train::preprocessing"),
        (("inference",), "preprocessing"),
    ],
)


def _image():
    image = torch.rand(3, 6, 6, 4, generator=torch.Generator().manual_seed(0))
    return image * torch.tensor([400.0, 1.0, 60.0])[:, None, None, None]


def _normalised(bundle, files, part, overrides):
    content = load_config(bundle, files, overrides).content
    steps = ConfigParser(content).get_parsed_content(part).transforms
    (step,) = [each for each in steps if type(each).__name__ == "NormalizeIntensityd"]
    return step({"image": _image().clone()})["image"]


@everywhere
def test_plain_images_are_normalised_sequence_by_sequence(files, part):
    found, image = _normalised(BUNDLE, files, part, {}), _image()
    mean, deviation = (function(image, dim=(1, 2, 3), keepdim=True) for function in (torch.mean, torch.std))
    assert torch.allclose(found, (image - mean) / deviation, atol=0.02)  # of all voxels or of all but one


@everywhere
def test_an_adc_of_fixed_scale_can_be_kept(files, part):
    found, image = _normalised(BUNDLE, files, part, KEEP_ADC), _image()
    assert torch.equal(found[1], image[1])
    assert found[[0, 2]].mean(dim=(1, 2, 3)).abs().max() < 1e-5


def test_inference_treats_sequences_as_the_training_was_told(tmp_path):
    run = shutil.copytree(BUNDLE, tmp_path / "run")
    write_inherited(run, load_config(run, ("train",), KEEP_ADC), KEEP_ADC)
    assert torch.equal(_normalised(run, ("inference",), "preprocessing", {})[1], _image()[1])


def test_samples_with_a_lesion_are_centred_on_it_and_exams_without_one_stay():
    steps = ConfigParser(load_config(BUNDLE, ("train",), {"patch_size": [8, 8, 4]}).content)
    (crop,) = [
        each
        for each in steps.get_parsed_content("train::preprocessing").transforms
        if type(each).__name__ == "RandCropByPosNegLabeld"
    ]
    crop.set_random_state(0)
    label = torch.zeros(1, 24, 24, 6)
    assert crop({"image": label.expand(3, -1, -1, -1), "label": label})[0]["image"].shape == (3, 8, 8, 4)
    label[0, 15:18, 6:9, 2:4] = 1
    patches = [crop({"image": label.expand(3, -1, -1, -1), "label": label})[0]["label"] for _ in range(12)]
    assert all(patch[0, 4, 4, 2] == 1 for patch in patches)


@pytest.mark.parametrize(("finetune", "lowest"), [(True, 0.0002 * 0.8**14), (False, 0.0002)])
def test_rates_fall_with_depth_only_where_training_starts_from_weights(finetune, lowest):
    parser = ConfigParser(load_config(BUNDLE, ("train",), {"finetune": finetune, "device": "cpu"}).content)
    rates = [group["lr"] for group in parser.get_parsed_content("optimizer").param_groups]
    assert (max(rates), min(rates)) == pytest.approx((0.0002, lowest))
