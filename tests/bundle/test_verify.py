import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from medssl.bundle.checks.subject import Subject, finding
from medssl.bundle.verify import FULL, STANDARD, verify_bundle
from medssl.core.findings import Finding

Edit = Callable[[str, dict[str, Any]], None]


def codes(bundle: Path) -> set[str]:
    return {finding.code for finding in verify_bundle(bundle).findings if finding.code != "B13"}


def test_good_bundle_has_no_findings(bundle: Path) -> None:
    assert codes(bundle) == set()


def test_every_check_runs_and_is_named(bundle: Path) -> None:
    ran = dict.fromkeys(code for code, _ in verify_bundle(bundle).checks)
    assert list(ran) == [f"B{number:02}" for number in range(1, 14)]


@pytest.mark.parametrize("name", ["LICENSE", "configs/logging.conf", "docs/README.md", "models/model.pt"])
def test_missing_file_is_b01(bundle: Path, name: str) -> None:
    (bundle / name).unlink()
    assert codes(bundle) == {"B01"}


def test_trainable_bundle_without_evaluation_is_b01(bundle: Path) -> None:
    (bundle / "configs" / "evaluate.json").unlink()
    assert codes(bundle) == {"B01"}


def test_file_name_in_other_case_is_b01(bundle: Path) -> None:
    (bundle / "LICENSE").rename(bundle / "License")
    assert codes(bundle) == {"B01"}


def test_duplicate_key_is_b01(bundle: Path) -> None:
    (bundle / "configs" / "train_continual.json").write_text('{"epochs": 1, "epochs": 2}', encoding="utf-8")
    assert codes(bundle) == {"B01"}


def test_stub_of_a_licence_is_b01(bundle: Path) -> None:
    (bundle / "LICENSE").write_text("Apache-2.0", encoding="utf-8")
    assert codes(bundle) == {"B01"}


def test_readme_without_a_heading_is_b01(bundle: Path) -> None:
    readme = bundle / "docs" / "README.md"
    readme.write_text(readme.read_text(encoding="utf-8").replace("## Limitations", ""), encoding="utf-8")
    assert codes(bundle) == {"B01"}


def test_weights_that_may_not_be_shipped_are_a_warning(bundle: Path, edit: Edit) -> None:
    (bundle / "models" / "model.pt").unlink()
    edit("metadata", {"weights": "not shipped"})
    result = verify_bundle(bundle)
    assert result.passed
    assert "B01" in codes(bundle)


@pytest.mark.parametrize(
    "name", ["prostate_mri_detection", "Hippocampus_MRI", "hippocampus", "brain-mri", "x_deepedit"]
)
def test_folder_name_that_misleads_hosts_is_b02(bundle: Path, name: str) -> None:
    assert codes(bundle.rename(bundle.with_name(name))) == {"B02"}


@pytest.mark.parametrize(
    "items",
    [
        {"task": None},
        {"version": "0.2.0"},
        {"supported_apps": ["MONAI Label"]},
        {"monai_version": "latest"},
        {"eval_metrics": None},
        {"network_data_format#inputs#image#format": "ct"},
        {"network_data_format#inputs#image#spatial_shape": ["n*16", 16, 16]},
        {"schema": "schema.json"},
    ],
)
def test_wrong_metadata_is_b03(bundle: Path, edit: Edit, items: dict[str, Any]) -> None:
    edit("metadata", items)
    assert codes(bundle) == {"B03"}


def test_second_schema_is_used_as_well(bundle: Path, tmp_path: Path) -> None:
    schema = tmp_path / "official.json"
    schema.write_text(json.dumps({"type": "object", "required": ["owner"]}), encoding="utf-8")
    found = verify_bundle(bundle, extra_schema=schema).findings
    assert any("owner" in finding.text for finding in found)


@pytest.mark.parametrize(
    "items",
    [
        {"network_data_format#outputs#pred#num_channels": 2},
        {"network_data_format#outputs#pred#channel_def": {"0": "background", "1": "anterior", "3": "posterior"}},
        {"network_data_format#inputs#image#num_channels": 2, "network_data_format#inputs#image#channel_def#1": "T2"},
    ],
)
def test_channels_that_do_not_agree_are_b04(bundle: Path, edit: Edit, items: dict[str, Any]) -> None:
    edit("metadata", items)
    assert codes(bundle) == {"B04"}


def test_second_input_is_b04(bundle: Path, edit: Edit) -> None:
    path = bundle / "configs" / "metadata.json"
    image = json.loads(path.read_text(encoding="utf-8"))["network_data_format"]["inputs"]["image"]
    edit("metadata", {"network_data_format#inputs#adc": image})
    assert codes(bundle) == {"B04"}


def test_other_number_of_classes_in_train_json_is_b04(bundle: Path, edit: Edit) -> None:
    edit("train", {"output_classes": 4})
    assert codes(bundle) == {"B04"}


@pytest.mark.parametrize(
    "items",
    [
        {"evaluator#inferer": "@inferrer"},
        {"inferer#overlp": 0.5},
        {"preprocessing#transforms#1#_target_": "EnsureChanelFirstd"},
        {"evaluator#device": None},
        {"network": "$@network_deff.to(@device)"},
    ],
)
def test_configuration_that_cannot_be_built_is_b05(bundle: Path, edit: Edit, items: dict[str, Any]) -> None:
    edit("inference", items)
    assert "B05" in codes(bundle) - {"B06", "B10"}


def test_override_of_a_missing_parent_is_b05(bundle: Path, edit: Edit) -> None:
    edit("train_continual", {"trian::trainer": {}})
    assert codes(bundle) == {"B05"}


def test_code_that_bundles_do_not_need_is_refused(bundle: Path, edit: Edit) -> None:
    edit("train", {"seed": "$os.getpid()"})
    assert codes(bundle) == {"trust-expression"}


def test_required_property_under_another_id_is_b06(bundle: Path, edit: Edit) -> None:
    edit("train", {"dataset_dir": None, "data_list_file_path": "manifest.json"})
    assert "B06" in codes(bundle)


def test_part_that_is_not_a_plain_reference_to_its_id_is_b06(bundle: Path, edit: Edit) -> None:
    edit("inference", {"other": {"_target_": "SimpleInferer"}, "evaluator#val_handlers": "@others", "others": []})
    assert "B06" in codes(bundle)


@pytest.mark.parametrize(
    "items",
    [
        {"train#handlers#1#validator": "@train#best"},
        {"train#handlers#0": {"_target_": "CheckpointLoader", "load_path": "x", "load_dict": {}}},
        {"train#trainer#max_epochs": 5, "lr_scheduler#total_steps": "@epochs"},
    ],
)
def test_handlers_against_the_rules_are_b07(bundle: Path, edit: Edit, items: dict[str, Any]) -> None:
    edit("train", items)
    assert "B07" in codes(bundle)


def test_handlers_behind_a_reference_are_b07(bundle: Path, edit: Edit) -> None:
    edit("train", {"mine": [], "validate#handlers": "@mine"})
    assert "B07" in codes(bundle)


def test_fixed_validation_interval_is_b07(bundle: Path, edit: Edit) -> None:
    edit("train", {"train#handlers#1#interval": 5})
    assert "B07" in codes(bundle)


def test_override_by_position_is_b07(bundle: Path, edit: Edit) -> None:
    edit("train_continual", {"train::handlers::0::minimum_match": 0.5})
    assert codes(bundle) == {"B07"}


@pytest.mark.parametrize(
    "items",
    [
        {"preprocessing#transforms#0": {"_target_": "EnsureTyped", "keys": "image"}},
        {"postprocessing#transforms#3": None},
        {"postprocessing#transforms#1#nearest_interp": True},
        {"postprocessing#transforms#1": None},
        {"preprocessing#transforms#1#_target_": "EnsureChannelFirst", "preprocessing#transforms#1#keys": None},
        {"inferer": {"_target_": "medssl.networks.inferer.Mine"}},
        {"handlers#0#load_dict": {"net": "@network"}},
        {"dataloader#num_workers": 2},
        {"displayable_configs": {"patch": [1, 2]}},
        {"output_dir": None},
        {"network_def": "%configs/train.json::network_def"},
    ],
)
def test_inference_that_a_host_cannot_use_is_b08(bundle: Path, edit: Edit, items: dict[str, Any]) -> None:
    edit("inference", items)
    assert "B08" in codes(bundle)


def test_unlabelled_data_without_its_ids_is_b09(bundle: Path, edit: Edit) -> None:
    edit("train", {"unlabeled_datalist": []})
    assert codes(bundle) == {"B09"}


def test_unlabelled_loader_that_shuffles_is_b09(bundle: Path, edit: Edit) -> None:
    loader = {"_target_": "DataLoader", "dataset": "@unlabeled#dataset", "shuffle": True}
    parts = {"dataset": {"_target_": "Dataset", "data": "@unlabeled_datalist"}, "sampler": [], "dataloader": loader}
    edit("train", {"unlabeled_datalist": [], "unlabeled": parts})
    assert codes(bundle) == {"B09"}


@pytest.mark.parametrize(
    "expression", ["$1 if @amp else 2", "$" + " + ".join(["@batch_size"] * 8), "$[i for i in @patch_size if i]"]
)
def test_logic_in_an_expression_is_b10(bundle: Path, edit: Edit, expression: str) -> None:
    edit("train", {"seed": expression})
    assert codes(bundle) == {"B10"}
    assert verify_bundle(bundle).passed


@pytest.mark.parametrize(
    "place",
    [
        "/data/images",
        "~/images",
        "C:\\images",
        "http://host/images",
        "$os.path.join(@bundle_root, '/data')",
        "10.0.0.1",
    ],
)
def test_place_of_one_machine_is_b11(bundle: Path, edit: Edit, place: str) -> None:
    edit("train", {"dataset_dir": place})
    assert codes(bundle) == {"B11"}


def test_home_folder_in_metadata_is_b11(bundle: Path, edit: Edit) -> None:
    edit("metadata", {"data_source": "copied from /home/someone/data"})
    assert codes(bundle) == {"B11"}


def test_checkpoint_among_the_models_is_b12(bundle: Path) -> None:
    (bundle / "models" / "last.pt").write_bytes(b"x")
    assert codes(bundle) == {"B12"}


def test_file_above_25_mb_is_b12(bundle: Path) -> None:
    with (bundle / "models" / "model.pt").open("wb") as stream:
        stream.truncate(26 * 2**20)
    assert codes(bundle) == {"B12"}


@pytest.mark.parametrize("rest", ["", '  url: "u"\n  hash_val: "0"\n  hash_type: "sha256"\n'])
def test_large_file_that_is_incomplete_or_untrue_is_b12(bundle: Path, rest: str) -> None:
    text = f'large_files:\n- path: "models/model.pt"\n{rest}'
    (bundle / "large_files.yml").write_text(text, encoding="utf-8")
    assert codes(bundle) == {"B12"}


def test_large_file_that_lies_elsewhere_needs_not_be_there(bundle: Path) -> None:
    (bundle / "models" / "model.pt").unlink()
    text = "large_files:\n  - path: models/model.pt\n    url: u\n    hash_val: '0'\n    hash_type: sha256\n"
    (bundle / "large_files.yml").write_text(text, encoding="utf-8")
    assert codes(bundle) == set()


def test_other_installed_version_is_b13(bundle: Path, edit: Edit) -> None:
    edit("metadata", {"required_packages_version": {"nibabel": "1.0.0", "no-such-package": "1.0.0"}})
    found = [finding for finding in verify_bundle(bundle).findings if finding.code == "B13"]
    assert {finding.severity for finding in found} == {"warning"}
    assert any("nibabel" in finding.text for finding in found)
    assert any("no-such-package" in finding.text for finding in found)


def test_monai_below_the_floor_is_b13(bundle: Path, edit: Edit) -> None:
    edit("metadata", {"monai_version": "1.5.0"})
    assert any("advisories" in finding.text for finding in verify_bundle(bundle).findings)


def test_bundle_that_breaks_a_check_still_gets_the_others(bundle: Path, edit: Edit) -> None:
    edit("metadata", {"network_data_format": 5})
    edit("train", {"dataset_dir": "/data"})
    assert {"B03", "B11"} <= codes(bundle)


def test_network_of_a_refused_bundle_is_not_run(runnable: Path, edit: Edit) -> None:
    edit("train", {"seed": "$__import__('os').getpid()"})
    result = verify_bundle(runnable, checks=FULL)
    assert [code for code, _ in result.checks][-1] == "B13"
    assert any("did not run" in finding.text for finding in result.findings)
    assert not result.passed


def test_check_that_fails_keeps_what_it_found_before(runnable: Path) -> None:
    def fails(subject: Subject) -> Iterator[Finding]:
        yield finding("B99", "here", "found", "mend it")
        message = "broken"
        raise RuntimeError(message)

    result = verify_bundle(runnable, checks=(("B99", "fails", fails),))
    assert result.findings[0].text == "found"
    assert {each.code for each in result.findings} == {"B99"}


def test_standard_checks_run_the_network(runnable: Path) -> None:
    result = verify_bundle(runnable, checks=STANDARD)
    assert result.passed, result.findings
    assert [code for code, _ in result.checks][-1] == "B18"
