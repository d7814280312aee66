"""A plan follows the data, and the configuration follows the plan."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phantoms import write_phantoms

from medssl.bundle.adapt import (
    Needs,
    Plan,
    Wishes,
    adapt_inference,
    adapt_train,
    adapted_configs,
    fit_patch,
    joined_needs,
    make_plan,
    needs_cubes,
    network_with_channels,
)
from medssl.core.errors import ConfigError
from medssl.data.fingerprint import fingerprint
from medssl.data.manifest import load_manifest


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


@given(st.tuples(*[st.integers(1, 600)] * 3), st.integers(8**3 * 8, 10**6))
def test_patches_are_multiples_of_the_stride_and_within_their_budget(shape: tuple[int, ...], voxels: int) -> None:
    patch = fit_patch(shape, strides=(8, 8, 8), voxels=voxels)
    assert all(extent % 8 == 0 and extent >= 16 for extent in patch)
    assert math.prod(patch) <= voxels or patch == (16, 16, 16) or max(patch) == 16
    assert all(extent <= max(16, 8 * math.ceil(own / 8)) for extent, own in zip(patch, shape, strict=True))


def test_a_small_organ_gets_a_patch_that_covers_it() -> None:
    assert fit_patch((35, 50, 36), strides=(8, 8, 8), voxels=100_000) == (40, 56, 40)


def test_thick_slices_get_as_many_as_the_network_needs_and_no_more() -> None:
    assert fit_patch((90, 90, 18), strides=(32, 32, 4), voxels=65536) == (64, 64, 16)
    assert fit_patch((190, 150, 1), strides=(32, 32, 1), voxels=65536) == (192, 160, 1)


def test_a_network_of_slices_sees_one_at_a_time_and_keeps_their_distance(tmp_path: Path) -> None:
    manifest = load_manifest(write_phantoms(tmp_path))
    found, _ = fingerprint(manifest, tmp_path, workers=0)
    plan = make_plan(manifest, found, Wishes(), Needs(strides=(8, 8, 1), slices=True))
    assert (plan.spacing_mm, plan.patch_size) == ((1.0, 1.0, -1.0), (24, 32, 1))
    sliced = Needs(strides=(8, 8, 1), slices=True, spacing_mm=(2.0, 2.0, 2.0))
    assert make_plan(manifest, found, Wishes(), sliced).spacing_mm == (2.0, 2.0, -1.0)
    pretrained = make_plan(manifest, found, Wishes(), Needs(strides=(8, 8, 8), spacing_mm=(2.0, 2.0, 2.0)))
    assert (pretrained.spacing_mm, pretrained.patch_size) == ((2.0, 2.0, 2.0), (16, 16, 16))


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


def test_a_plan_takes_labels_geometry_and_channels_from_the_data(tmp_path: Path) -> None:
    path = write_phantoms(tmp_path, values=(3, 7), channels=2)
    manifest = load_manifest(path)
    found, _ = fingerprint(manifest, tmp_path, workers=0)
    plan = make_plan(manifest, found, Wishes())
    assert plan.class_names == ("background", "ball", "box")
    assert (plan.label_values, plan.channels) == ((0, 3, 7), 2)
    assert (plan.spacing_mm, plan.patch_size) == ((1.0, 1.0, 1.0), (24, 32, 24))


def test_ct_is_clipped_and_scaled_by_the_labelled_voxels(tmp_path: Path) -> None:
    manifest = load_manifest(write_phantoms(tmp_path)).model_copy(update={"modality": "CT"})
    found, _ = fingerprint(manifest, tmp_path, workers=0)
    scaling = make_plan(manifest, found, Wishes()).intensity
    assert scaling["_target_"] == "ScaleIntensityRanged"
    assert 60 < scaling["a_min"] < 110 < 190 < scaling["a_max"] < 240
    slope = (scaling["b_max"] - scaling["b_min"]) / (scaling["a_max"] - scaling["a_min"])
    assert slope == pytest.approx(1 / found.foreground[0].standard_deviation)


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


def test_absolute_intensities_share_one_scaling(tmp_path: Path) -> None:
    manifest = load_manifest(write_phantoms(tmp_path))
    found, _ = fingerprint(manifest, tmp_path, workers=0)
    plan = make_plan(manifest, found, Wishes(absolute_intensities=True))
    assert plan.intensity["_target_"] == "ScaleIntensityRanged"
    assert make_plan(manifest, found, Wishes()).intensity["_target_"] == "NormalizeIntensityd"


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


def test_network_of_views_gets_cubic_voxels_of_the_median_volume(bundles: Path, tmp_path: Path) -> None:
    path = write_phantoms(tmp_path)
    manifest = load_manifest(path)
    found, _ = fingerprint(manifest, tmp_path, workers=0)
    flat = replace(found, spacing_mm=replace(found.spacing_mm, median=(0.5, 0.5, 4.0)))
    assert make_plan(manifest, flat, Wishes(), Needs(cubes=True)).spacing_mm == (1.0, 1.0, 1.0)
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


def test_networks_that_are_compared_share_strides_and_cubes() -> None:
    views, plain = Needs(strides=(12, 12, 12), cubes=True), Needs(strides=(8, 8, 2))
    shared = Needs(strides=(24, 24, 12), cubes=True)
    assert joined_needs(plain, [views, plain]) == joined_needs(views, [views, plain]) == shared


def test_a_network_of_slices_neither_gives_nor_takes_a_grid() -> None:
    slices, plain = Needs(strides=(16, 16, 1), slices=True), Needs(strides=(8, 8, 8))
    assert joined_needs(slices, [plain, Needs(cubes=True)]) == slices
    assert joined_needs(plain, [slices]) == plain
