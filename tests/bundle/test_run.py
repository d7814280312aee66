"""Training a bundle: the same as the stock command, resumable, and never over other files."""

from __future__ import annotations

import json
import logging
import shutil
from functools import partial
from pathlib import Path

import monai.bundle
import pytest
import torch
from bundle.process_bundles import evaluated, trained
from phantoms import write_phantoms
from processes import in_processes
from stops import stop_in_call

from medssl.bundle.predictor import load_predictor
from medssl.bundle.resolve import load_config
from medssl.bundle.run import copy_bundle, prepare_run, settings_of, train
from medssl.core.errors import CheckpointError, ConfigError, ManifestError, TrustError
from medssl.core.files import sha256_file, write_json
from medssl.data.manifest import load_manifest
from medssl.networks import SliceNet
from medssl.networks.pretrained import pretrained_tensors

_PLAIN = {"epochs": 2, "iterations_per_epoch": 3, "amp": False, "num_workers": 0, "val_interval": 2}
_QUICK = _PLAIN | {"network_def#channels": [4, 8], "network_def#strides": [2], "network_def#num_res_units": 0}
_QUICK |= {"patch_size": [16, 16, 16]}


@pytest.fixture
def source(bundles: Path) -> Path:
    return bundles / "hippocampus_mri_supervised"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return write_phantoms(tmp_path / "data", training=3, validation=1)


def _losses(run: Path) -> list[float]:
    lines = (run / "results" / "train_log.jsonl").read_text().splitlines()
    return [line["loss"] for line in map(json.loads, lines) if line["kind"] == "train"]


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "models" / "model.pt", weights_only=True)


def _same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def test_a_run_folder_is_a_bundle_and_names_what_made_it(source: Path, manifest: Path, tmp_path: Path) -> None:
    record = train(source, manifest=manifest, out=tmp_path / "run", overrides=_QUICK)
    assert {"configs", "docs", "LICENSE", "models", "checkpoints", "results"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    assert [path.name for path in (tmp_path / "run" / "models").iterdir()] == ["model.pt"]
    assert record == json.loads((tmp_path / "run" / "results" / "run.json").read_text())
    assert len(record["weights_sha256"]) == 64
    assert len(_losses(tmp_path / "run")) == 2


def test_inference_of_a_run_has_the_network_and_the_voxels_of_its_training(
    source: Path, manifest: Path, tmp_path: Path
) -> None:
    changed = {**_QUICK, "resample_to_spacing": [1.5, 1.5, 1.5]}
    train(source, manifest=manifest, out=tmp_path / "run", overrides=changed)
    inference = json.loads((tmp_path / "run" / "configs" / "inference.json").read_text())
    assert inference["resample_to_spacing"] == [1.5, 1.5, 1.5]
    assert inference["network_def"]["channels"] == [4, 8]
    load_predictor(tmp_path / "run", device="cpu").close()  # the weights fit


def test_an_attempt_that_fails_leaves_nothing_to_the_next_one(source: Path, manifest: Path, tmp_path: Path) -> None:
    missing = {"finetune": True, "finetune_model_path": str(tmp_path / "none.pt")}
    with pytest.raises(CheckpointError):
        train(source, manifest=manifest, out=tmp_path / "run", overrides={**_QUICK, **missing})
    for name in ("train", "inference"):
        file = f"configs/{name}.json"
        assert (tmp_path / "run" / file).read_bytes() == (source / file).read_bytes()


def test_another_network_is_trained_and_inferred_with(source: Path, manifest: Path, tmp_path: Path) -> None:
    network = {"_target_": "medssl.networks.CSwinUNet", "size": "tiny", "in_channels": 1}
    network["out_channels"] = "@output_classes"
    plain = {**_PLAIN, "patch_size": [32, 32, 32], "batch_size": 1}
    train(source, manifest=manifest, out=tmp_path / "run", overrides={**plain, "network_def": network})
    inference = json.loads((tmp_path / "run" / "configs" / "inference.json").read_text())
    assert inference["network_def"] == {**network, "out_channels": 3}
    load_predictor(tmp_path / "run", device="cpu").close()  # the weights fit
    longer = {**plain, "network_def": network, "epochs": 3}
    train(source, manifest=manifest, out=tmp_path / "run", overrides=longer)
    assert len(_losses(tmp_path / "run")) == 3  # the same run went on


def test_the_stock_command_trains_the_same_network(source: Path, manifest: Path, tmp_path: Path) -> None:
    train(source, manifest=manifest, out=tmp_path / "ours", overrides=_QUICK)
    copy_bundle(source, tmp_path / "stock")
    # What `python -m monai.bundle run` calls; a process of its own would differ in its number of threads
    monai.bundle.run(
        config_file=str(tmp_path / "stock" / "configs" / "train.json"),
        logging_file=False,
        bundle_root=str(tmp_path / "stock"),
        dataset_dir=str(manifest.parent),
        **_QUICK,
    )
    assert _losses(tmp_path / "stock") == _losses(tmp_path / "ours")
    assert _same(_weights(tmp_path / "stock"), _weights(tmp_path / "ours"))


def test_a_stopped_run_is_continued_by_the_same_command(
    source: Path, manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from medssl.methods.supervised import SupervisedStep

    train(source, manifest=manifest, out=tmp_path / "undisturbed", overrides=_QUICK)
    stop_in_call(monkeypatch, SupervisedStep, 2)
    with pytest.raises(SystemExit):
        train(source, manifest=manifest, out=tmp_path / "run", overrides=_QUICK)
    train(source, manifest=manifest, out=tmp_path / "run", overrides=_QUICK)
    assert _same(_weights(tmp_path / "run"), _weights(tmp_path / "undisturbed"))


def test_a_changed_setting_is_refused_with_a_difference(source: Path, manifest: Path, tmp_path: Path) -> None:
    train(source, manifest=manifest, out=tmp_path / "run", overrides=_QUICK)
    with pytest.raises(ConfigError, match=r'"seed": 5') as error:
        train(source, manifest=manifest, out=tmp_path / "run", overrides={**_QUICK, "seed": 5})
    assert "Put the settings back" in str(error.value)


def test_more_epochs_would_send_a_co_trained_run_back_to_its_first_stage(
    bundles: Path, manifest: Path, tmp_path: Path
) -> None:
    def prepare(*configs: str, epochs: int) -> None:
        out = tmp_path / "_".join(configs)
        config = load_config(bundles / "hippocampus_mri_umct", configs, {"epochs": epochs})
        prepare_run(out, settings_of(config, load_manifest(manifest)))
        (out / "checkpoints").mkdir(exist_ok=True)
        (out / "checkpoints" / "last.pt").touch()

    prepare("train", epochs=4)
    prepare("train", epochs=4)
    with pytest.raises(ConfigError, match=r'"epochs": 4(.|\n)*"epochs": 8(.|\n)*second stage begins at a share'):
        prepare("train", epochs=8)
    for epochs in (4, 8):  # one stage alone
        prepare("train", "train_source_free", epochs=epochs)


@pytest.fixture
def slice_encoder(tmp_path: Path) -> Path:
    """The encoder of a residual network for slices as pre-training leaves it."""
    torch.save(pretrained_tensors(SliceNet(size="tiny")), tmp_path / "encoder.pt")
    content = {"sha256": sha256_file(tmp_path / "encoder.pt"), "stages": [{"stage": "slices"}]}
    write_json(tmp_path / "encoder.json", content)
    return tmp_path / "encoder.pt"


def test_views_start_from_the_encoder_of_slices(
    bundles: Path, manifest: Path, slice_encoder: Path, tmp_path: Path
) -> None:
    network = {"_target_": "medssl.networks.ViewNet", "_mode_": "callable", "size": "tiny"}
    parts = ["networks.axial", "networks.coronal"]
    start = {"finetune": True, "finetune_model_path": str(slice_encoder), "finetune_parts": parts}
    small = {**_PLAIN, "epochs": 1, "iterations_per_epoch": 1, "patch_size": [16, 16, 16], "learning_rate": 0.0}
    changed = {**small, **start, "batch_size": 1, "network_def#network": network}
    changed["network_def#views"] = ["axial", "coronal"]
    train(bundles / "hippocampus_mri_umct", manifest=manifest, out=tmp_path / "run", overrides=changed)
    weights, given = _weights(tmp_path / "run"), torch.load(slice_encoder, weights_only=True)
    for part in parts:
        assert torch.equal(weights[f"{part}.layer4.1.conv2.weight"][..., 0], given["layer4.1.conv2.weight"])
        assert torch.equal(weights[f"{part}.conv1.weight"][..., 1], given["conv1.weight"])
    report = json.loads((tmp_path / "run" / "results" / "weights.json").read_text())
    assert report["source"]["stages"] == [{"stage": "slices"}]


@pytest.mark.parametrize("method", ["mean_teacher", "ua_mt", "cps"])
def test_baselines_leave_one_network_of_the_bundles_kind(
    method: str, bundles: Path, manifest: Path, tmp_path: Path
) -> None:
    small = {**_PLAIN, "epochs": 2, "iterations_per_epoch": 2, "patch_size": [16, 16, 16], "learning_rate": 0.01}
    small |= {"network_def#views": ["axial", "coronal"], "network_def#network#init_filters": 4}
    run, source = tmp_path / "run", bundles / "hippocampus_mri_umct"
    train(source, manifest=manifest, out=run, config_files=("train", f"train_{method}"), overrides=small)
    weights, resume = _weights(run), torch.load(run / "checkpoints" / "last.pt", weights_only=True)["parts"]
    network = load_config(run, ("inference",)).content["network_def"]
    assert network["views"] == ["axial", "coronal"]
    if method == "cps":
        taught = {name.removeprefix("first."): each for name, each in resume["network"].items() if "first." in name}
        other = {name.removeprefix("second."): each for name, each in resume["network"].items() if "second." in name}
    else:
        taught, other = resume["teacher"]["teacher"], resume["network"]
    assert _same(weights, taught)
    assert not _same(weights, other)
    log = [json.loads(line) for line in (run / "results" / "train_log.jsonl").read_text().splitlines()]
    assert any("consistency_loss" in line for line in log)


def test_the_stock_command_does_not_move_the_stages_of_a_run(bundles: Path, manifest: Path, tmp_path: Path) -> None:
    small = {**_PLAIN, "patch_size": [16, 16, 16], "network_def#views": ["axial", "coronal"]}
    run = tmp_path / "run"
    train(bundles / "hippocampus_mri_umct", manifest=manifest, out=run, overrides=small)
    places = {"bundle_root": str(run), "dataset_dir": str(manifest.parent), "data_list_file_path": str(manifest)}
    options = {name.replace("#", "::"): value for name, value in {**small, "epochs": 4}.items()}
    config = str(run / "configs" / "train.json")
    with pytest.raises(RuntimeError) as raised:  # MONAI's, around ours
        monai.bundle.run(run_id="run", config_file=config, logging_file=False, **places, **options)
    assert "cotraining_start: saved 3.0, now 6.0" in str(raised.getrepr())


def test_self_training_takes_what_the_first_round_predicted(bundles: Path, manifest: Path, tmp_path: Path) -> None:
    content = json.loads(manifest.read_text())
    last = content["training"].pop()
    manifest.write_text(json.dumps(content | {"unlabeled": [{"id": last["id"], "image": last["image"]}]}))
    source, files = bundles / "hippocampus_mri_umct", ("train", "train_self_training")
    small = {**_PLAIN, "patch_size": [16, 16, 16], "network_def#views": ["axial", "coronal"]}
    small["predictions_dir"] = str(tmp_path / "predictions")
    with pytest.raises(ConfigError, match="found none of phantom_2"):
        train(source, manifest=manifest, out=tmp_path / "run", config_files=files, overrides=small)
    (tmp_path / "predictions").mkdir()
    shutil.copy(manifest.parent / last["label"], tmp_path / "predictions" / "phantom_2.nii.gz")
    train(source, manifest=manifest, out=tmp_path / "run", config_files=files, overrides=small)
    assert '"pseudo_loss"' in (tmp_path / "run" / "results" / "train_log.jsonl").read_text()


def test_adaptation_without_any_unlabelled_case_is_refused(bundles: Path, manifest: Path, tmp_path: Path) -> None:
    source = bundles / "hippocampus_mri_umct"
    start = {"finetune_model_path": str(source / "models" / "model.pt"), **_PLAIN}
    files = ("train.json", "train_source_free.json")
    with pytest.raises(ConfigError, match="no unlabelled case to learn from"):
        train(source, manifest=manifest, out=tmp_path / "run", config_files=files, overrides=start)


def test_adaptation_on_a_patch_that_the_views_cannot_halve_is_refused(
    bundles: Path, manifest: Path, tmp_path: Path
) -> None:
    content = json.loads(manifest.read_text())
    bare = [{"image": case["image"], "id": case["id"]} for case in content.pop("training")]
    manifest.write_text(json.dumps(content | {"training": [], "unlabeled": bare}))
    start = {"finetune_model_path": "model.pt", **_PLAIN, "patch_size": [16, 15, 16]}
    files = ("train.json", "train_source_free.json")
    with pytest.raises(ConfigError, match="Y = 15 is no multiple of 8"):
        train(
            bundles / "hippocampus_mri_umct",
            manifest=manifest,
            out=tmp_path / "run",
            config_files=files,
            overrides=start,
        )


def test_classes_in_another_order_are_refused(source: Path, manifest: Path, tmp_path: Path) -> None:
    labels = {"0": "background", "1": "Posterior", "2": "Anterior"}
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"labels": labels}))
    with pytest.raises(ConfigError, match="posterior 2 -> 1, anterior 1 -> 2"):
        train(source, manifest=manifest, out=tmp_path / "run", overrides=_QUICK)
    assert not (tmp_path / "run").exists()


def test_cases_of_other_channels_are_refused(source: Path, manifest: Path, tmp_path: Path) -> None:
    content = json.loads(manifest.read_text())
    for case in (case for part in ("training", "validation", "unlabeled", "test") for case in content.get(part, [])):
        case["image"] = [case["image"], case["image"]]
    manifest.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match=r"expected 1 image files in each case.*found 2"):
        train(source, manifest=manifest, out=tmp_path / "run", overrides=_QUICK)
    assert not (tmp_path / "run").exists()


def test_unlabelled_cases_of_other_channels_are_refused(bundles: Path, manifest: Path, tmp_path: Path) -> None:
    content = json.loads(manifest.read_text())
    last = content["training"].pop()
    other = {"id": last["id"], "image": [last["image"], last["image"]]}
    manifest.write_text(json.dumps(content | {"unlabeled": [other]}))
    with pytest.raises(ManifestError, match=r"2 in phantom_2 \(unlabeled\)"):
        train(bundles / "hippocampus_mri_umct", manifest=manifest, out=tmp_path / "run", overrides=_PLAIN)
    assert not (tmp_path / "run").exists()


def test_views_without_an_archive_learn_from_labels_and_say_so(
    bundles: Path, manifest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    small = {**_PLAIN, "epochs": 1, "patch_size": [16, 16, 16], "network_def#views": ["axial", "coronal"]}
    with caplog.at_level(logging.INFO, logger="medssl.training"):
        train(bundles / "hippocampus_mri_umct", manifest=manifest, out=tmp_path / "run", overrides=small)
    assert caplog.text.count("no unlabelled crops: the views learn from labels alone") == 1


def test_classes_of_other_names_are_told(
    source: Path, manifest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(source, manifest=manifest, out=tmp_path / "run", overrides=_QUICK | {"epochs": 1})
    assert "the bundle will call them background, anterior, posterior" in caplog.text


def test_a_run_is_not_continued_on_other_cases(source: Path, manifest: Path, tmp_path: Path) -> None:
    train(source, manifest=manifest, out=tmp_path / "run", overrides=_QUICK)
    content = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(content | {"description": "the same cases"}))
    train(source, manifest=manifest, out=tmp_path / "run", overrides=_QUICK)
    manifest.write_text(json.dumps(content | {"training": content["training"][1:]}))
    with pytest.raises(ConfigError, match="data_sha256"):
        train(source, manifest=manifest, out=tmp_path / "run", overrides=_QUICK)


def test_a_longer_run_continues_a_finished_one(source: Path, manifest: Path, tmp_path: Path) -> None:
    train(source, manifest=manifest, out=tmp_path / "run", overrides=_QUICK)
    train(source, manifest=manifest, out=tmp_path / "run", overrides={**_QUICK, "epochs": 3})
    assert len(_losses(tmp_path / "run")) == 3


def test_a_run_that_validates_its_start_keeps_its_best_weights(source: Path, manifest: Path, tmp_path: Path) -> None:
    run, options = tmp_path / "run", {**_QUICK, "val_at_start": True, "val_interval": 1}
    train(source, manifest=manifest, out=run, overrides=options)
    before = _weights(run)
    train(source, manifest=manifest, out=run, overrides=options)  # validates random weights, then resumes
    assert _same(_weights(run), before)


def test_a_start_that_no_epoch_betters_is_kept(bundles: Path, manifest: Path, tmp_path: Path) -> None:
    start = torch.load(bundles / "hippocampus_mri_umct" / "models" / "model.pt", weights_only=True)
    options = {**_PLAIN, "val_at_start": True, "val_interval": 1, "learning_rate": 1e3, "finetune": True}
    options |= {"patch_size": [16, 16, 16], "val_patch_size": [24, 24, 24], "epochs": 1}
    options |= {"finetune_model_path": str(bundles / "hippocampus_mri_umct" / "models" / "model.pt")}
    run = tmp_path / "run"
    train(bundles / "hippocampus_mri_umct", manifest=manifest, out=run, overrides=options)
    lines = [json.loads(line) for line in (run / "results" / "train_log.jsonl").read_text().splitlines()]
    assert [line["kind"] for line in lines].count("validation") >= 1
    assert _same(_weights(run), start)


def test_weights_that_no_run_of_a_folder_made_are_not_replaced(source: Path, manifest: Path, tmp_path: Path) -> None:
    train(source, manifest=manifest, out=tmp_path / "run", overrides=_QUICK)
    copy_bundle(source, tmp_path / "shipped")
    shutil.copy(tmp_path / "run" / "models" / "model.pt", tmp_path / "shipped" / "models")
    with pytest.raises(ConfigError, match="found a bundle with weights of its own"):
        train(source, manifest=manifest, out=tmp_path / "shipped", overrides=_QUICK)
    assert _same(_weights(tmp_path / "shipped"), _weights(tmp_path / "run"))


def test_a_folder_with_other_files_is_not_touched(source: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.docx").write_text("years of work")
    with pytest.raises(ConfigError, match="expected an empty or new folder"):
        copy_bundle(source, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.docx"]


# Adam would turn the rounding noise of a gradient of zero (a bias before a normalisation) into whole steps
_SGD = {"optimizer": {"_target_": "torch.optim.SGD", "params": "$@network.parameters()", "lr": 0.05}, "device": "cpu"}


def _validations(run: Path) -> list[dict]:
    lines = (run / "results" / "train_log.jsonl").read_text().splitlines()
    return [line for line in map(json.loads, lines) if line["kind"] == "validation"]


def test_two_processes_train_a_bundle_as_one_with_twice_the_batch(source: Path, tmp_path: Path) -> None:
    manifest = write_phantoms(tmp_path / "data", training=3, validation=3)
    train(source, manifest=manifest, out=tmp_path / "one", overrides={**_QUICK, **_SGD, "batch_size": 2})
    two = {**_QUICK, **_SGD, "batch_size": 1}
    main, other = in_processes(trained, source, manifest, tmp_path / "two", two)
    assert main["processes"] == other["processes"] == 2
    assert main == json.loads((tmp_path / "two" / "results" / "run.json").read_text())
    expected, found = _weights(tmp_path / "one"), _weights(tmp_path / "two")
    assert all(torch.allclose(found[name], expected[name], rtol=1e-6, atol=1e-6) for name in expected)
    assert _losses(tmp_path / "two") == pytest.approx(_losses(tmp_path / "one"), abs=1.1e-6)  # of six written digits
    assert _validations(tmp_path / "two") == _validations(tmp_path / "one")


@pytest.mark.parametrize("method", ["mean_teacher", "cps"])
def test_two_processes_learn_from_the_archive_as_one(bundles: Path, tmp_path: Path, method: str) -> None:
    manifest = write_phantoms(tmp_path / "data", training=3, validation=2)
    content = json.loads(manifest.read_text())
    last = content["training"].pop()
    manifest.write_text(json.dumps(content | {"unlabeled": [{"id": last["id"], "image": last["image"]}]}))
    small = {**_PLAIN, **_SGD, "patch_size": [16, 16, 16], "cotraining_rise": 0.0, "cotraining_weight": 1.0}
    small |= {"network_def#views": ["axial", "coronal"], "network_def#network#init_filters": 4}
    source, files = bundles / "hippocampus_mri_umct", ("train", f"train_{method}")
    both, half = ({**small, "batch_size": size, "unlabeled_batch_size": size} for size in (2, 1))
    train(source, manifest=manifest, out=tmp_path / "one", overrides=both, config_files=files)
    in_processes(partial(trained, files=files), source, manifest, tmp_path / "two", half)
    expected, found = _weights(tmp_path / "one"), _weights(tmp_path / "two")
    assert all(torch.allclose(found[name], expected[name], rtol=1e-5, atol=1e-6) for name in expected)
    assert _losses(tmp_path / "two") == pytest.approx(_losses(tmp_path / "one"), abs=1.1e-6)


@pytest.mark.parametrize("cases, processes", [(3, 2), (1, 2)])
def test_an_evaluation_by_processes_writes_the_table_of_one(
    source: Path, tmp_path: Path, cases: int, processes: int
) -> None:
    manifest = write_phantoms(tmp_path / "data", training=1, validation=cases)
    places = {"dataset_dir": str(manifest.parent), "data_list_file_path": str(manifest), "device": "cpu"}
    files = ("train", "evaluate")
    names = evaluated(source, files, tmp_path / "one", places)
    in_processes(evaluated, source, (*files, "multi_gpu_evaluate"), tmp_path / "two", places, count=processes)
    assert names == ["metrics.csv", "val_mean_dice_raw.csv", "val_mean_dice_summary.csv"]
    for name in names:
        assert (tmp_path / "two" / name).read_text() == (tmp_path / "one" / name).read_text()
    assert len((tmp_path / "two" / names[1]).read_text().splitlines()) == 1 + cases


def test_a_copy_that_is_cut_off_leaves_no_run_folder(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cut_off(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "copy2", cut_off)
    with pytest.raises(KeyboardInterrupt):
        copy_bundle(source, tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_bundle_that_would_run_code_is_not_even_copied(source: Path, manifest: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "hostile")
    (tmp_path / "hostile" / "itk.py").write_text("")
    with pytest.raises(TrustError, match=r"itk\.py"):
        train(tmp_path / "hostile", manifest=manifest, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
