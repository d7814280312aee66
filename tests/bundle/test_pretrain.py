"""Stages of pre-training: in order, resumable, skipped when finished, never changed under a later one."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest
import torch
from bundle.pretraining_bundle import write_pretraining_bundle
from phantoms import write_phantoms
from stops import stop_in_call

from medssl.bundle.pretrain import pretrain, stage_names
from medssl.bundle.run import train
from medssl.core.errors import CheckpointError, ConfigError
from medssl.core.files import sole_writer
from medssl.methods.supervised import SupervisedStep


@pytest.fixture
def source(bundles: Path, tmp_path: Path) -> Path:
    return write_pretraining_bundle(bundles, tmp_path / "phantom_mri_pretrained")


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_phantoms(tmp_path / "data", training=2, validation=1)


def _encoder(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "models" / "encoder.pt", weights_only=True)


def _same(first: Path, second: Path) -> bool:
    pairs = zip(_encoder(first).values(), _encoder(second).values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_stages_run_in_name_order_and_name_what_they_did(source: Path, manifest: Path, tmp_path: Path) -> None:
    record = pretrain(source, manifest=manifest, out=tmp_path / "run")
    made = json.loads((tmp_path / "run" / "models" / "encoder.json").read_text())
    assert [each["stage"] for each in made["stages"]] == ["pretrain_first", "pretrain_second"]
    assert record["encoder_sha256"] == made["sha256"]
    assert made["architecture"] == "SplitSegResNet"
    assert all(name.startswith(("convInit", "down_layers")) for name in _encoder(tmp_path / "run"))


def test_finished_stages_are_not_run_again(source: Path, manifest: Path, tmp_path: Path, monkeypatch) -> None:
    first = pretrain(source, manifest=manifest, out=tmp_path / "run")
    monkeypatch.setattr(SupervisedStep, "__call__", lambda *_: pytest.fail("a finished stage ran again"))
    assert pretrain(source, manifest=manifest, out=tmp_path / "run") == first
    alone = pretrain(source, manifest=manifest, out=tmp_path / "run", stages=["pretrain_first"])
    assert alone["stage"] == "pretrain_first"


def test_a_stop_in_the_second_stage_changes_nothing(source: Path, manifest: Path, tmp_path: Path, monkeypatch) -> None:
    pretrain(source, manifest=manifest, out=tmp_path / "undisturbed")
    calls = stop_in_call(monkeypatch, SupervisedStep, 3)
    with pytest.raises(SystemExit):
        pretrain(source, manifest=manifest, out=tmp_path / "run")
    pretrain(source, manifest=manifest, out=tmp_path / "run")
    assert calls == [1, 2, 1, 2]
    assert _same(tmp_path / "undisturbed", tmp_path / "run")


def test_two_at_once_in_one_folder_are_refused(source: Path, manifest: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("medssl.bundle.pretrain.sole_writer", partial(sole_writer, patience=0.0))
    pretrain(source, manifest=manifest, out=tmp_path / "run", stages=["pretrain_first"])
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.json")}
    with sole_writer(tmp_path / "run"), pytest.raises(ConfigError, match="another process is writing there"):
        pretrain(source, manifest=manifest, out=tmp_path / "run", overrides={"network_def#init_filters": 16})
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*.json")} == before
    pretrain(source, manifest=manifest, out=tmp_path / "run")


def test_other_settings_are_refused(source: Path, manifest: Path, tmp_path: Path) -> None:
    pretrain(source, manifest=manifest, out=tmp_path / "run", stages=["pretrain_first"])
    with pytest.raises(ConfigError, match="learning_rate"):
        pretrain(source, manifest=manifest, out=tmp_path / "run", overrides={"learning_rate": 0.5})


def test_a_stage_cannot_change_under_a_later_one(source: Path, manifest: Path, tmp_path: Path) -> None:
    pretrain(source, manifest=manifest, out=tmp_path / "run")
    before = (tmp_path / "run" / "models" / "encoder.pt").read_bytes()
    for stages in ([], ["pretrain_first"]):
        with pytest.raises(ConfigError, match=r"pretrain_first would write over .* pretrain_second made"):
            pretrain(source, manifest=manifest, out=tmp_path / "run", stages=stages, overrides={"epochs": 2})
    assert (tmp_path / "run" / "models" / "encoder.pt").read_bytes() == before
    pretrain(source, manifest=manifest, out=tmp_path / "run", stages=["pretrain_second"], overrides={"epochs": 2})


def test_another_pretraining_does_not_replace_the_one_of_a_folder(source: Path, manifest: Path, tmp_path: Path) -> None:
    shutil.copyfile(source / "configs" / "pretrain_first.json", source / "configs" / "control.json")
    pretrain(source, manifest=manifest, out=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"control would write over .* pretrain_first, pretrain_second"):
        pretrain(source, manifest=manifest, out=tmp_path / "run", stages=["control"])


def test_what_a_command_would_replace_is_refused_before_its_first_stage_runs(
    source: Path, manifest: Path, tmp_path: Path
) -> None:
    pretrain(source, manifest=manifest, out=tmp_path / "other", stages=["pretrain_first"])
    start = {"train#handlers#2#start_from": str(tmp_path / "other" / "models" / "encoder.pt")}
    with pytest.raises(ConfigError, match=r"pretrain_second would write over .* pretrain_first"):
        pretrain(source, manifest=manifest, out=tmp_path / "run", overrides=start)
    assert not (tmp_path / "run").exists()


def test_what_a_folder_holds_is_known_without_its_resume_files(source: Path, manifest: Path, tmp_path: Path) -> None:
    shutil.copyfile(source / "configs" / "pretrain_first.json", source / "configs" / "control.json")
    pretrain(source, manifest=manifest, out=tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints")
    with pytest.raises(ConfigError, match="control would write over"):
        pretrain(source, manifest=manifest, out=tmp_path / "run", stages=["control"])


def test_a_stage_between_others_is_not_run_longer_under_the_one_behind_it(
    source: Path, manifest: Path, tmp_path: Path
) -> None:
    third = (source / "configs" / "pretrain_second.json").read_text().replace("pretrain_second", "pretrain_third")
    (source / "configs" / "pretrain_third.json").write_text(third)
    pretrain(source, manifest=manifest, out=tmp_path / "run")
    with pytest.raises(ConfigError, match=r"pretrain_second would write over .* pretrain_third"):
        pretrain(source, manifest=manifest, out=tmp_path / "run", stages=["pretrain_second"], overrides={"epochs": 2})
    made = json.loads((tmp_path / "run" / "models" / "encoder.json").read_text())
    assert [each["stage"] for each in made["stages"]] == ["pretrain_first", "pretrain_second", "pretrain_third"]


def test_an_encoder_that_the_stages_did_not_make_is_not_passed_off_as_theirs(
    source: Path, manifest: Path, tmp_path: Path
) -> None:
    pretrain(source, manifest=manifest, out=tmp_path / "run")
    (tmp_path / "run" / "models" / "encoder.pt").write_bytes(b"another")
    with pytest.raises(CheckpointError, match="describes weights of sha256"):
        pretrain(source, manifest=manifest, out=tmp_path / "run")


def test_a_lone_stage_goes_on_for_more_epochs(source: Path, manifest: Path, tmp_path: Path) -> None:
    pretrain(source, manifest=manifest, out=tmp_path / "run", stages=["pretrain_first"])
    pretrain(source, manifest=manifest, out=tmp_path / "run", stages=["pretrain_first"], overrides={"epochs": 2})
    made = json.loads((tmp_path / "run" / "models" / "encoder.json").read_text())
    assert [each["iterations"] for each in made["stages"]] == [4]


def test_an_override_of_no_stage_is_refused(source: Path, manifest: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lerning_rate: no stage .* has this id"):
        pretrain(source, manifest=manifest, out=tmp_path / "run", overrides={"lerning_rate": 0.5})


def test_a_bundle_without_stages_says_so(bundles: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected configs/pretrain\*.json"):
        stage_names(bundles / "hippocampus_mri_supervised")


def test_training_starts_from_the_encoder_of_its_bundle(source: Path, manifest: Path, tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    pretrain(source, manifest=manifest, out=tmp_path / "run")
    train(tmp_path / "run", manifest=manifest, out=tmp_path / "trained")
    report = json.loads((tmp_path / "trained" / "results" / "weights.json").read_text())
    assert sorted(report["loaded"]) == sorted(_encoder(tmp_path / "run"))
    assert "made by pretrain_first, pretrain_second; loaded: convInit" in caplog.text


def test_training_builds_the_network_that_was_pretrained(source: Path, manifest: Path, tmp_path: Path) -> None:
    wider = {"network_def#init_filters": 16}
    pretrain(source, manifest=manifest, out=tmp_path / "run", overrides=wider)
    pretrain(source, manifest=manifest, out=tmp_path / "run", overrides=wider)  # the stages are finished still
    train(tmp_path / "run", manifest=manifest, out=tmp_path / "trained")
    report = json.loads((tmp_path / "trained" / "results" / "weights.json").read_text())
    assert sorted(report["loaded"]) == sorted(_encoder(tmp_path / "run"))


def test_training_from_random_weights_can_be_asked_for(source: Path, manifest: Path, tmp_path: Path) -> None:
    pretrain(source, manifest=manifest, out=tmp_path / "run")
    train(tmp_path / "run", manifest=manifest, out=tmp_path / "trained", overrides={"finetune": False})
    assert not (tmp_path / "trained" / "results" / "weights.json").exists()


def test_an_encoder_of_another_network_stops_the_training(source: Path, manifest: Path, tmp_path: Path) -> None:
    pretrain(source, manifest=manifest, out=tmp_path / "run")
    with pytest.raises(CheckpointError, match="expected every one of"):
        train(tmp_path / "run", manifest=manifest, out=tmp_path / "other", overrides={"network_def#init_filters": 16})
