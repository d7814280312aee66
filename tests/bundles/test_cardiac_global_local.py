"""The cardiac bundle end to end on phantoms: two stages, fine-tuning, prediction slice by slice, self-training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from bundles.small_cardiac import BUNDLE, PRETRAINING, QUICK, pretrained, pretrained_share
from phantoms import write_phantoms
from processes import in_processes
from stops import stop_in_call

from medssl.bundle.pretrain import pretrain
from medssl.bundle.run import train
from medssl.cli.main import run
from medssl.core import exit_codes
from medssl.core.errors import ConfigError
from medssl.data.manifest import load_manifest, save_manifest
from medssl.methods.global_local import LocalContrastStep

_COARSE = [2.0, 2.0, -1]
_TRAIN = {**QUICK, "batch_size": 2, "val_interval": 1, "output_classes": 3, "select_best": False}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two labelled volumes and two without label."""
    path = write_phantoms(tmp_path_factory.mktemp("data"), training=4, validation=1)
    content = load_manifest(path)
    bare = tuple(case.model_copy(update={"label": None}) for case in content.training[2:])
    save_manifest(path, content.model_copy(update={"training": content.training[:2], "unlabeled": bare}))
    return path


@pytest.fixture(scope="module")
def source(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundle, pre-trained."""
    out = tmp_path_factory.mktemp("pretrained") / "phantom_mri_pretrained"
    pretrain(
        BUNDLE,
        manifest=manifest,
        out=out,
        overrides={**PRETRAINING, "output_classes": 3, "resample_to_spacing": _COARSE},
    )
    return out


def _log(run: Path, stage: str) -> list[dict]:
    lines = (run / "results" / stage / "train_log.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == "train"]


def test_both_stages_are_named_and_the_trained_blocks_are_saved(source: Path) -> None:
    made = json.loads((source / "models" / "encoder.json").read_text())
    assert [(each["stage"], each["strategy"]) for each in made["stages"]] == [
        ("pretrain_global", "GD"),
        ("pretrain_local", "LR"),
    ]
    assert (made["architecture"], made["dimensions"], made["decoder_blocks"]) == ("SliceUNet", 2, 2)
    assert made["stages"][1]["input_axes"] == "RAS"


def test_the_log_names_the_value_of_a_collapse(source: Path) -> None:
    last = _log(source, "pretrain_global")[-1]
    assert last["collapse_value"] == pytest.approx(np.log(1 + 12), abs=1e-4)
    assert last["loss_to_collapse"] == pytest.approx(last["loss"] / last["collapse_value"], abs=1e-3)


def test_the_second_stage_keeps_the_encoder_of_the_first(source: Path, manifest: Path, tmp_path: Path) -> None:
    options = {**PRETRAINING, "output_classes": 3, "resample_to_spacing": _COARSE}
    pretrain(BUNDLE, manifest=manifest, out=tmp_path / "one", stages=["pretrain_global"], overrides=options)
    first, both = (torch.load(run / "models" / "encoder.pt", weights_only=True) for run in (tmp_path / "one", source))
    assert set(first) < set(both)
    assert all(torch.equal(tensor, both[name]) for name, tensor in first.items())


def test_a_stop_in_the_local_stage_changes_nothing(
    source: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {**PRETRAINING, "output_classes": 3, "resample_to_spacing": _COARSE}
    stop_in_call(monkeypatch, LocalContrastStep, 1)
    with pytest.raises(SystemExit):
        pretrain(BUNDLE, manifest=manifest, out=tmp_path / "run", overrides=options)
    pretrain(BUNDLE, manifest=manifest, out=tmp_path / "run", overrides=options)
    first, second = (torch.load(run / "models" / "encoder.pt", weights_only=True) for run in (source, tmp_path / "run"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())


def test_finetuning_with_mixup_starts_from_it_and_predicts_slice_by_slice(
    source: Path, manifest: Path, tmp_path: Path
) -> None:
    train(source, manifest=manifest, out=tmp_path / "run", overrides={**_TRAIN, "use_mixup": True})
    report = json.loads((tmp_path / "run" / "results" / "weights.json").read_text())
    assert {name.split(".")[0] for name in report["loaded"]} == {"encoder", "decoder"}
    assert {name.split(".")[0] for name in report["missing"]} == {"head"}


def test_a_bundle_for_other_classes_starts_from_it_and_keeps_slices_and_intensities(
    source: Path, manifest: Path, tmp_path: Path
) -> None:
    out = tmp_path / "phantom_mri_new"
    quick = ["epochs=1", "iterations_per_epoch=2", "batch_size=2", "amp=false", "num_workers=0", "val_interval=1"]
    command = ["finetune", str(source), "--manifest", str(manifest), "--out", str(out)]
    assert run([*command, *(each for value in quick for each in ("--set", value))]) == exit_codes.OK
    config = json.loads((out / "configs" / "inference.json").read_text())
    # The voxels that the encoder knows, not those of the files
    assert (config["patch_size"], config["resample_to_spacing"]) == ([12, 16, 1], [2.0, 2.0, -1.0])
    assert not list((out / "configs").glob("*pretrain*")) and not (out / "configs" / "masked_autoencoder.json").exists()
    names = [each["_target_"] for each in config["preprocessing"]["transforms"]]
    assert {"ScaleIntensityRangePercentilesd", "ScaleIntensityRanged"} < set(names)
    report = json.loads((out / "results" / "weights.json").read_text())
    assert {name.split(".")[0] for name in report["loaded"]} == {"encoder", "decoder"}
    assert "2 x 2 x any mm" in (out / "docs" / "README.md").read_text()


def test_self_training_needs_and_takes_predictions(source: Path, manifest: Path, tmp_path: Path) -> None:
    import nibabel as nib

    options = {**_TRAIN, "predictions_dir": str(tmp_path / "predictions"), "unlabeled_batch_size": 2}
    files = ("train", "train_self_training")
    with pytest.raises(ConfigError, match="found none of phantom_2, phantom_3"):
        train(source, manifest=manifest, out=tmp_path / "run", config_files=files, overrides=options)
    (tmp_path / "predictions").mkdir()
    for case in load_manifest(manifest).unlabeled:
        image = nib.load(manifest.parent / case.image[0])
        labels = nib.Nifti1Image(np.ones(image.shape, np.uint8), image.affine)
        nib.save(labels, tmp_path / "predictions" / f"{case.id}.nii.gz")
    train(source, manifest=manifest, out=tmp_path / "run", config_files=files, overrides=options)
    log = (tmp_path / "run" / "results" / "train_log.jsonl").read_text()
    assert '"pseudo_loss"' in log


def test_the_masked_autoencoder_is_a_stage_of_its_own(manifest: Path, tmp_path: Path) -> None:
    own = {"block": [8, 8, 1], "decoder_blocks": 2, "batch_size": 2}
    pretrain(BUNDLE, manifest=manifest, out=tmp_path, stages=["masked_autoencoder"], overrides={**QUICK, **own})
    made = json.loads((tmp_path / "models" / "encoder.json").read_text())
    assert [each["method"] for each in made["stages"]] == ["masked_autoencoder"]
    assert made["decoder_blocks"] == 2


def test_pretraining_leaves_the_value_of_a_collapse_behind(manifest: Path, tmp_path: Path) -> None:
    larger = {"network_def#channels": [8, 16, 16], "embedder#widths": [64, 32], "crop_size": [32, 32, 1]}
    longer = {**PRETRAINING, **larger, "iterations_per_epoch": 120, "learning_rate": 0.001}
    pretrain(BUNDLE, manifest=manifest, out=tmp_path, stages=["pretrain_global"], overrides=longer)
    assert _log(tmp_path, "pretrain_global")[-1]["loss_to_collapse"] < 0.9


def test_two_processes_pretrain_as_one(manifest: Path, tmp_path: Path) -> None:
    one = pretrained(manifest, tmp_path / "one")
    two, _ = in_processes(pretrained_share, manifest, tmp_path / "two")
    assert one.keys() == two.keys()
    for name, values in one.items():
        assert np.abs(two[name] - values).max() <= 1e-5 * max(1.0, np.abs(values).max())
