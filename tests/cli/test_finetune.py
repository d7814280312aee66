"""The hospital path: from a manifest to a new bundle that verifies, with an honest score."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import nibabel as nib
import pytest
from phantoms import write_phantoms

from medssl.bundle.catalog import find_bundle
from medssl.bundle.finetune import Request, finetune
from medssl.bundle.prepare import bundle_needs
from medssl.bundle.resolve import build_network, load_config
from medssl.cli.main import run
from medssl.core import exit_codes
from medssl.networks import ChannelDropout
from medssl.reports.sources import read_sources

_DOCS = Path(__file__).parents[2] / "docs"
_BUNDLE = "hippocampus_mri_supervised"
_QUICK = ["--set", "iterations_per_epoch=3", "--set", "amp=false", "--set", "num_workers=0", "--set", "val_interval=1"]


def _finetune(manifest: Path, out: Path, *options: str) -> int:
    arguments = ["finetune", _BUNDLE, "--manifest", str(manifest), "--out", str(out), "--epochs", "1"]
    return run([*arguments, *_QUICK, *options])


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def new_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetune")
    manifest = write_phantoms(folder / "data", values=(3, 7))
    assert _finetune(manifest, folder / "phantom_mri_new") == exit_codes.OK
    return folder / "phantom_mri_new"


def test_the_new_bundle_verifies_and_describes_its_data(new_bundle: Path) -> None:
    assert run(["bundle", "verify", str(new_bundle), "--quick"]) == exit_codes.OK
    metadata = _json(new_bundle / "configs" / "metadata.json")
    assert metadata["network_data_format"]["outputs"]["pred"]["channel_def"] == {
        "0": "background",
        "1": "ball",
        "2": "box",
    }
    assert set(metadata["eval_metrics"]) == {"mean_dice", "dice_ball", "dice_box"}


def test_the_body_of_the_source_is_loaded_and_the_head_of_its_classes_is_not(new_bundle: Path) -> None:
    report = _json(new_bundle / "results" / "weights.json")
    assert len(report["loaded"]) > 40
    assert report["skipped"]
    assert {name.split(": ")[0].rsplit(".", 3)[0][:7] for name in report["skipped"]} == {"model.2"}
    assert report["missing"] == []
    assert report["source"]["file"] == "model.pt"


def test_the_score_says_that_it_is_optimistic(new_bundle: Path) -> None:
    text = (new_bundle / "docs" / "README.md").read_text()
    assert "optimistic" in text
    (evaluation,) = read_sources([new_bundle]).evaluations
    assert evaluation.title.endswith("(by medssl finetune, optimistic)")
    assert "the best checkpoint was chosen: optimistic" in evaluation.content["meaning"]


def test_no_patient_reaches_the_new_bundle(new_bundle: Path) -> None:
    texts = [p for p in new_bundle.rglob("*") if p.suffix in {".json", ".jsonl", ".md", ".csv", ".txt"}]
    assert len(texts) > 10
    assert not [path.name for path in texts if "Doe" in path.read_text()]


def test_no_path_of_this_machine_is_in_its_configuration(new_bundle: Path) -> None:
    for path in (new_bundle / "configs").glob("*.json"):
        assert str(new_bundle.parent) not in path.read_text()


def test_the_new_bundle_segments_on_the_native_grid(new_bundle: Path, tmp_path: Path) -> None:
    image = new_bundle.parent / "data" / "phantom_0_0.nii.gz"
    assert run(["infer", str(new_bundle), str(image), "--out", str(tmp_path)]) == exit_codes.OK
    label = nib.load(tmp_path / "phantom_0_0.nii.gz")
    assert label.shape == (24, 26, 22)
    assert _json(tmp_path / "run.json")["labels"] == {"0": "background", "1": "ball", "2": "box"}


def test_cross_validation_scores_every_case_by_a_network_that_did_not_see_it(tmp_path: Path) -> None:
    manifest = write_phantoms(tmp_path / "data", training=4, validation=0)
    assert _finetune(manifest, tmp_path / "phantom_mri_new", "--folds", "2") == exit_codes.OK
    metrics = _json(tmp_path / "phantom_mri_new" / "results" / "metrics.json")
    assert {case["id"] for case in metrics["cases"]} == {f"phantom_{i}" for i in range(4)}
    assert "prediction-unlisted" not in {finding["code"] for finding in metrics["findings"]}
    for fold in (0, 1):
        settings = _json(tmp_path / "phantom_mri_new" / "folds" / f"fold_{fold}" / "results" / "resolved.json")
        assert (settings["fold"], settings["select_best"]) == (fold, False)
    assert _json(tmp_path / "phantom_mri_new" / "results" / "resolved.json")["fold"] is None


def test_a_bundle_without_weights_is_refused_unless_asked(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    from medssl.bundle.catalog import find_bundle
    from medssl.bundle.run import copy_bundle

    manifest = write_phantoms(tmp_path / "data", training=2, validation=1)
    copy_bundle(find_bundle(_BUNDLE), tmp_path / "empty_mri_bundle")
    arguments = ["finetune", str(tmp_path / "empty_mri_bundle"), "--manifest", str(manifest)]
    assert run([*arguments, "--out", str(tmp_path / "a_mri_b")]) == exit_codes.USAGE
    assert "--from-scratch" in capsys.readouterr().err
    assert not (tmp_path / "a_mri_b").exists()


def test_broken_data_stop_before_training(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    manifest = write_phantoms(tmp_path / "data", training=2, validation=1)
    (tmp_path / "data" / "phantom_1_0.nii.gz").write_bytes(b"broken")
    assert _finetune(manifest, tmp_path / "phantom_mri_new") == exit_codes.NOTHING_DONE
    printed = capsys.readouterr()
    assert "phantom_1" in printed.out
    assert "Nothing was trained" in printed.err


def test_a_network_for_other_channels_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    manifest = write_phantoms(tmp_path / "data")
    network = '{"_target_": "medssl.networks.CSwinUNet", "in_channels": 3, "out_channels": "@output_classes"}'
    options = ("--from-scratch", "--set", f"network_def={network}")
    assert _finetune(manifest, tmp_path / "phantom_mri_new", *options) == exit_codes.USAGE
    assert "in_channels: expected 1, as many as each case has images, got 3" in capsys.readouterr().err
    assert not (tmp_path / "phantom_mri_new").exists()


def test_patches_suit_the_network_that_settings_make() -> None:
    own = {"_target_": "medssl.networks.CSwinUNet", "_mode_": "callable", "size": "tiny"}
    bundle = find_bundle("hippocampus_mri_umct")
    assert bundle_needs(bundle).strides == (8, 8, 8)
    assert bundle_needs(bundle, overrides={"network_def#network": own}).strides == (16, 16, 16)


def test_a_name_that_makes_no_valid_bundle_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    manifest = write_phantoms(tmp_path / "data", training=2, validation=1)
    assert _finetune(manifest, tmp_path / "Mine") == exit_codes.USAGE
    assert "spleen_ct_finetuned" in capsys.readouterr().err


def test_several_processes_are_sent_to_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    manifest = write_phantoms(tmp_path / "data", training=2, validation=1)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "as torchrun sets it")
    assert _finetune(manifest, tmp_path / "phantom_mri_new") == exit_codes.USAGE
    assert "--no-python medssl train" in capsys.readouterr().err
    assert not (tmp_path / "phantom_mri_new").exists()


@pytest.fixture
def unlabelled_target(tmp_path: Path) -> Path:
    """A manifest whose unlabelled scans are all there is to learn from; its validation cases have labels."""
    manifest = write_phantoms(tmp_path / "target", training=2, validation=1)
    content = _json(manifest)
    cases = [{"image": case["image"], "id": case["id"]} for case in content["training"]]
    names = {"0": "background", "1": "anterior", "2": "posterior"}
    manifest.write_text(json.dumps(content | {"training": [], "unlabeled": cases, "labels": names}), encoding="utf-8")
    for number in range(2):
        (tmp_path / "target" / f"phantom_{number}_label.nii.gz").unlink()  # what is not there cannot be read
    return manifest


def _adapt(bundle: str, manifest: Path, out: Path, *options: str) -> int:
    fast = [*_QUICK[:6], "--set", "stochastic_passes=2", "--epochs", "1"]
    return run(["finetune", bundle, "--manifest", str(manifest), "--out", str(out), *fast, *options])


def test_scans_without_labels_adapt_a_cotrained_bundle(unlabelled_target: Path, tmp_path: Path, capsys) -> None:
    out = tmp_path / "hippocampus_mri_adapted"
    assert _adapt("hippocampus_mri_umct", unlabelled_target, out, "--set", "iterations_per_epoch=2") == exit_codes.OK
    assert "which chose nothing" in capsys.readouterr().out
    metadata, readme = _json(out / "configs" / "metadata.json"), (out / "docs" / "README.md").read_text()
    summary = _json(out / "results" / "metrics.json")["summary"]
    assert metadata["eval_metrics"]["mean_dice"] == round(summary["mean"]["dice"]["mean"], 4)
    assert metadata["description"] == "2 cases of phantoms without labels, starting from hippocampus_mri_umct."
    assert "adapted without labels from hippocampus_mri_umct to phantoms. The validation cases" in readme
    assert "4 labelled" not in readme.partition("## Preprocessing")[0].partition("## Data")[2]
    assert "The weights that it started from" in (out / "docs" / "data_license.txt").read_text()
    log = [json.loads(line) for line in (out / "results" / "train_log.jsonl").read_text().splitlines()]
    assert any("view_agreement" in line for line in log)


def test_an_adaptation_neither_renames_classes_nor_replaces_its_source(
    unlabelled_target: Path, tmp_path: Path, capsys
) -> None:
    source, out = tmp_path / "hippocampus_mri_source", tmp_path / "hippocampus_mri_adapted"
    shutil.copytree(find_bundle("hippocampus_mri_umct"), source)
    before = (source / "models" / "model.pt").read_bytes()
    for place in (source, out):
        assert _adapt(str(source), unlabelled_target, place) == (exit_codes.USAGE if place == source else exit_codes.OK)
    assert "found the bundle that is adapted" in capsys.readouterr().err
    shutil.copytree(source, other := tmp_path / "hippocampus_mri_other")
    assert _adapt(str(source), unlabelled_target, other) == exit_codes.USAGE
    assert "found a bundle with weights of its own" in capsys.readouterr().err
    assert {(each / "models" / "model.pt").read_bytes() for each in (source, other)} == {before}
    content = _json(unlabelled_target) | {"labels": {"0": "background", "1": "head", "2": "body"}}
    unlabelled_target.write_text(json.dumps(content))
    assert _adapt(str(source), unlabelled_target, tmp_path / "hippocampus_mri_here") == exit_codes.USAGE
    assert "which no label teaches anew, found background, head, body" in capsys.readouterr().err


def test_labels_are_not_left_out_by_a_configuration_that_reads_none(partly_labelled: Path, tmp_path, capsys) -> None:
    arguments = ["finetune", "hippocampus_mri_umct", "--manifest", str(partly_labelled)]
    more = ["--out", str(tmp_path / "a_mri_b"), "--config", "train", "--config", "train_source_free"]
    assert run([*arguments, *more]) == exit_codes.USAGE
    assert "it learns from no label" in capsys.readouterr().err


@pytest.fixture
def partly_labelled(tmp_path: Path) -> Path:
    """The manifest of two labelled cases and phantom_2 without a label."""
    manifest = write_phantoms(tmp_path / "data", training=3, validation=1)
    content = _json(manifest)
    last = content["training"].pop()
    content["unlabeled"] = [{"image": last["image"], "id": last["id"]}]
    manifest.write_text(json.dumps(content), encoding="utf-8")
    return manifest


def test_labelled_and_unlabelled_scans_are_co_trained_on(partly_labelled: Path, tmp_path: Path) -> None:
    quick = {"epochs": 1, "iterations_per_epoch": 2, "num_workers": 0, "amp": False, "val_interval": 9}
    quick |= {"cotraining_start": 0.5, "stochastic_passes": 2}
    out = tmp_path / "phantom_mri_cotrained"
    bundle = find_bundle("hippocampus_mri_umct")
    data = {"manifest": partly_labelled, "data_root": partly_labelled.parent}
    finetune(Request(bundle=bundle, out=out, overrides=quick, **data))
    log = [json.loads(line) for line in (out / "results" / "train_log.jsonl").read_text().splitlines()]
    assert any("cotraining_loss" in line for line in log)
    assert [case["id"] for case in _json(out / "results" / "manifest.json")["unlabeled"]] == ["phantom_2"]


def test_a_configuration_of_the_bundle_changes_how_it_is_trained(partly_labelled: Path, tmp_path: Path, capsys) -> None:
    out, page = tmp_path / "phantom_mri_taught", (_DOCS / "cotraining.md").read_text()
    network = re.search(r"--set '(network_def={.*?})'", page, re.DOTALL)[1]
    arguments = ["finetune", "hippocampus_mri_umct", "--manifest", str(partly_labelled), "--out", str(out), *_QUICK]
    arguments += ["--from-scratch", "--epochs", "1", "--set", network]
    assert run([*arguments, "--config", "train", "--config", "train_mean_techer"]) == exit_codes.USAGE
    assert "train_mean_teacher" in capsys.readouterr().err
    assert run([*arguments, "--config", "train", "--config", "train_mean_teacher"]) == exit_codes.OK
    assert '"consistency_loss"' in (out / "results" / "train_log.jsonl").read_text()
    assert _json(out / "configs" / "inference.json")["network_def"]["_target_"] == "medssl.networks.SplitSegResNet"


def test_networks_of_views_on_the_page_of_co_training_can_be_made() -> None:
    page, bundle = (_DOCS / "cotraining.md").read_text(), find_bundle("hippocampus_mri_umct")
    texts = [
        re.search(r"`({[^`]*ViewNet[^`]*})`", page)[1],
        re.search(r"network_def#network=({.*?})'", page, re.DOTALL)[1],
    ]
    for network in map(json.loads, texts):
        made = build_network(load_config(bundle, overrides={"network_def#network": network, "dropout_rate": 0.25}))
        assert {each.rate for each in made.modules() if isinstance(each, ChannelDropout)} == {0.25}


def test_a_network_that_its_arguments_do_not_suit_is_a_usage_error(
    partly_labelled: Path, tmp_path: Path, capsys
) -> None:
    network = {"_target_": "SegResNet", "init_filters": 5, "out_channels": 3}
    more = ["--from-scratch", "--set", f"network_def={json.dumps(network)}"]
    assert _finetune(partly_labelled, tmp_path / "phantom_mri_new", *more) == exit_codes.USAGE
    assert "num_channels (5) must be divisible" in capsys.readouterr().err


def test_what_is_held_out_cannot_be_set(partly_labelled: Path, tmp_path: Path, capsys) -> None:
    assert _finetune(partly_labelled, tmp_path / "phantom_mri_new", "--set", "fold=null") == exit_codes.USAGE
    assert "or use --folds" in capsys.readouterr().err


def test_a_cross_validation_chooses_nothing_on_what_it_scores(partly_labelled: Path, tmp_path: Path, capsys) -> None:
    for more, told in (
        (["--set", "select_best=true"], "chosen on the cases that are scored"),
        (["--config", "train", "--config", "train_self_training"], "may have learnt from the labels that are scored"),
    ):
        arguments = ["finetune", "hippocampus_mri_umct", "--manifest", str(partly_labelled), *more]
        assert run([*arguments, "--out", str(tmp_path / "a_mri_b"), "--folds", "2"]) == exit_codes.USAGE
        assert told in capsys.readouterr().err


def test_another_way_of_training_needs_labels(unlabelled_target: Path, tmp_path: Path, capsys) -> None:
    more = ["--config", "train", "--config", "train_mean_teacher"]
    assert _adapt("hippocampus_mri_umct", unlabelled_target, tmp_path / "a_mri_b", *more) == exit_codes.USAGE
    assert "train in another way" in capsys.readouterr().err


def test_bundle_of_one_network_cannot_adapt_without_labels(unlabelled_target: Path, tmp_path: Path, capsys) -> None:
    assert _adapt(_BUNDLE, unlabelled_target, tmp_path / "a_mri_b") == exit_codes.USAGE
    assert "train_source_free.json" in capsys.readouterr().err


def test_cross_validation_without_labels_is_refused(unlabelled_target: Path, tmp_path: Path, capsys) -> None:
    assert _adapt("hippocampus_mri_umct", unlabelled_target, tmp_path / "a_mri_b", "--folds", "2") == exit_codes.USAGE
    assert "nothing to cross-validate" in capsys.readouterr().err


def test_a_configuration_without_the_one_it_changes_is_told_so(partly_labelled: Path, tmp_path: Path, capsys) -> None:
    more = ["--config", "train_mean_teacher"]
    assert _adapt("hippocampus_mri_umct", partly_labelled, tmp_path / "a_mri_b", *more) == exit_codes.USAGE
    assert "train#teacher: there is nothing above it to change" in (told := capsys.readouterr().err)
    assert "--config train before" in told
