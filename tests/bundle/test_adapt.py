"""The configuration of a bundle follows the plan of a dataset."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from phantoms import write_phantoms
from torch import nn

from medssl.bundle.adapt import adapt_inference, adapt_train, adapted_configs, needs_cubes, network_with_channels
from medssl.bundle.dataset_plan import Plan
from medssl.bundle.prepare import narrow_dropout, serves
from medssl.core.errors import ConfigError
from medssl.data.manifest import load_manifest
from medssl.networks import SplitSegResNet, SplitUNet


def _plan(**changes: object) -> Plan:
    values = {
        "class_names": ("background", "liver", "tumour"),
        "label_values": (0, 1, 2),
        "channels": 1,
        "spacing_mm": (1.0, 1.0, 2.0),
        "patch_size": (32, 32, 16),
        "intensity": {"_target_": "NormalizeIntensityd", "keys": "image", "channel_wise": True},
        "aim_at_labels": False,
        "in_plane_axis": None,
    }
    return Plan(**{**values, **changes})


def _config(bundles: Path, name: str) -> dict:
    return json.loads((bundles / "hippocampus_mri_supervised" / "configs" / f"{name}.json").read_text())


def _targets(config: dict, part: str = "train") -> list[str]:
    return [each["_target_"] for each in config[part]["preprocessing"]["transforms"]]


def test_a_normalisation_of_each_volume_stays_and_absolute_numbers_do_not(bundles: Path) -> None:
    path = bundles / "cardiac_mri_global_local" / "configs" / "train.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    names = {"ScaleIntensityRangePercentilesd", "ScaleIntensityRanged"}
    assert _targets(adapt_train(config, _plan())) == _targets(config)
    fixed = {"_target_": "NormalizeIntensityd", "keys": "image", "subtrahend": 40.0, "divisor": 9.0}
    own = config["train"]["preprocessing"]["transforms"]
    changed = [fixed if each["_target_"] == "ScaleIntensityRangePercentilesd" else each for each in own]
    config["train"]["preprocessing"]["transforms"] = changed
    assert fixed not in adapt_train(config, _plan())["train"]["preprocessing"]["transforms"]
    config["train"]["preprocessing"]["transforms"] = own
    absolute = {
        "_target_": "ScaleIntensityRanged",
        "keys": "image",
        "a_min": -100,
        "a_max": 200,
        "b_min": 0,
        "b_max": 1,
    }
    adapted = adapt_train(config, _plan(intensity=absolute))["train"]["preprocessing"]["transforms"]
    assert [each for each in adapted if each["_target_"] in names] == [absolute]


def test_channels_that_are_normalised_already_stay_so_and_numbers_of_another_dataset_do_not(bundles: Path) -> None:
    path = bundles / "prostate_mri_lesion_cswin_unet"
    plan = _plan(class_names=("background", "lesion"), label_values=(0, 1), channels=3)
    own = json.loads((path / "configs" / "inference.json").read_text())["preprocessing"]["transforms"][4]
    adapted = adapted_configs(path, plan, {})
    assert adapted["inference"]["preprocessing"]["transforms"][4] == own
    assert adapted["evaluate"]["validate#preprocessing"]["transforms"][4] == own
    for changes, settings in (({}, {"intensity_mean": [1.0, 2.0, 3.0]}), ({"channels": 1}, {})):
        train = adapted_configs(path, replace(plan, **changes), settings)["train"]
        assert train["validate"]["preprocessing"]["transforms"][4] == plan.intensity


def test_label_values_with_gaps_are_mapped_to_channels(bundles: Path) -> None:
    config = adapt_train(_config(bundles, "train"), _plan(label_values=(0, 4, 9)))
    for part in ("train", "validate"):
        mapping = config[part]["preprocessing"]["transforms"][2]
        assert mapping["_target_"] == "MapLabelValued"
        assert (mapping["orig_labels"], mapping["target_labels"]) == ([0, 4, 9], [0, 1, 2])
    assert "MapLabelValued" not in _targets(adapt_train(config, _plan()))


def test_crops_aim_at_labels_only_where_volumes_exceed_the_patch(bundles: Path) -> None:
    config = _config(bundles, "train")
    assert "RandSpatialCropd" in _targets(adapt_train(config, _plan()))
    assert "RandCropByPosNegLabeld" in _targets(adapt_train(config, _plan(aim_at_labels=True)))


def test_thick_slices_are_rotated_in_plane_only(bundles: Path) -> None:
    config = adapt_train(_config(bundles, "train"), _plan(in_plane_axis=2))
    affine = next(t for t in config["train"]["preprocessing"]["transforms"] if t["_target_"] == "RandAffined")
    assert affine["rotate_range"][:2] == [0.0, 0.0]
    assert affine["rotate_range"][2] > 0
    assert affine["translate_range"][2] == 0.0


def test_training_and_inference_agree_on_the_network(bundles: Path) -> None:
    plan = _plan(channels=3)
    train = adapt_train(_config(bundles, "train"), plan)
    inference = adapt_inference(_config(bundles, "inference"), plan)
    assert train["output_classes"] == inference["network_def"]["out_channels"] == 3
    assert train["network_def"]["in_channels"] == inference["network_def"]["in_channels"] == 3
    assert train["patch_size"] == inference["patch_size"] == [32, 32, 16]
    assert train["val_patch_size"] == "@patch_size"


def test_settings_that_the_bundle_does_not_know_are_refused(bundles: Path) -> None:
    with pytest.raises(ConfigError, match="no 'warp_speed'"):
        adapted_configs(bundles / "hippocampus_mri_supervised", _plan(), {"warp_speed": 9})


def test_a_preprocessing_without_normalisation_is_refused(bundles: Path) -> None:
    config = _config(bundles, "inference")
    transforms = config["preprocessing"]["transforms"]
    config["preprocessing"]["transforms"] = [t for t in transforms if t["_target_"] != "NormalizeIntensityd"]
    with pytest.raises(ConfigError, match="exactly one intensity normalisation"):
        adapt_inference(config, _plan())


def test_the_norm_that_is_wished_reaches_both_configurations(bundles: Path) -> None:
    for name, adapt in (("train", adapt_train), ("inference", adapt_inference)):
        assert adapt(_config(bundles, name), _plan(norm="batch"))["network_def"]["norm"] == ["batch", {"affine": True}]
        assert adapt(_config(bundles, name), _plan())["network_def"]["norm"][0] == "instance"


def _cotrained(bundles: Path) -> dict:
    return json.loads((bundles / "hippocampus_mri_umct" / "configs" / "train.json").read_text())


def test_unlabelled_images_are_normalised_as_labelled_ones_and_cropped_anywhere(bundles: Path) -> None:
    intensity = {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": 0, "a_max": 1}
    adapted = adapt_train(_cotrained(bundles), _plan(intensity=intensity, aim_at_labels=True))
    assert "ScaleIntensityRanged" in _targets(adapted, "unlabeled")
    assert "RandCropByPosNegLabeld" in _targets(adapted, "train")
    assert "RandSpatialCropd" in _targets(adapted, "unlabeled")


def test_a_network_of_views_needs_cubes(bundles: Path) -> None:
    assert needs_cubes(bundles / "hippocampus_mri_umct")
    assert not needs_cubes(bundles / "hippocampus_mri_supervised")


def test_a_network_that_is_chosen_gets_the_channels_of_the_images() -> None:
    network = {"_target_": "medssl.networks.CSwinUNet", "size": "tiny"}
    chosen = network_with_channels({"network_def": network, "epochs": 3}, 3)
    assert chosen == {"network_def": {**network, "in_channels": 3}, "epochs": 3}
    assert network_with_channels({"network_def#size": "small"}, 3) == {"network_def#size": "small"}
    callable_part = {"network_def#network": {**network, "_mode_": "callable"}}
    assert network_with_channels(callable_part, 3) == callable_part


@pytest.mark.parametrize("wrong", [{"network_def": {"in_channels": 1}}, {"network_def#in_channels": 1}])
def test_a_network_for_other_channels_than_those_of_the_images_is_refused(wrong: dict) -> None:
    with pytest.raises(ConfigError, match="in_channels: expected 3, as many as each case has images, got 1"):
        network_with_channels(wrong, 3)


def test_a_bundle_serves_data_of_its_classes_and_channels(bundles: Path, tmp_path: Path) -> None:
    bundle = bundles / "hippocampus_mri_supervised"
    names = {"0": "background", "1": "Anterior", "2": "posterior"}
    for channels, labels, fits in ((1, names, True), (2, names, False), (1, {**names, "2": "other"}, False)):
        manifest = load_manifest(write_phantoms(tmp_path / f"{channels}{labels['2']}", channels=channels))
        assert serves(bundle, manifest.model_copy(update={"labels": labels})) == fits


@pytest.mark.parametrize(
    ("network", "classes", "told"),
    [
        (SplitSegResNet(init_filters=8), 15, "15, found 8 features of which 30% are dropped"),
        (SplitSegResNet(init_filters=8), 3, None),
        (SplitSegResNet(init_filters=8, dropout_rate=0.0), 15, None),
        (SplitUNet(), 15, None),
    ],
)
def test_dropout_that_leaves_fewer_features_than_classes_is_told_before_training(
    network: nn.Module, classes: int, told: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    found = narrow_dropout(network, classes)
    assert [told in each.text for each in found] == ([] if told is None else [True])
    assert len(caplog.messages) == len(found)
