from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from medssl.bundle.config import input_channels, merge_config, parse_overrides, wanted_channels
from medssl.bundle.resolve import check_config, load_config, own_errors, resolved_json, workflow, workflow_of
from medssl.core.errors import ConfigError
from medssl.core.files import sha256_json

Edit = Callable[[str, dict[str, Any]], None]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("false", False), ("False", False), ("0", 0), ("1e-3", 0.001), (".5", 0.5), ("[1, 2]", [1, 2]),
        ("(1, 2)", [1, 2]), ("null", None), ("None", None), ("abc", "abc"), ('"7"', "7"), ("a=b", "a=b"),
        ("NaN", "NaN"), ("@amp", "@amp"),
    ],
)  # fmt: skip
def test_override_text_becomes_a_typed_value(text: str, value: Any) -> None:
    parsed = parse_overrides([f"x::y={text}"])["x#y"]
    assert parsed == value
    assert type(parsed) is type(value)


def test_override_without_a_value_is_refused() -> None:
    with pytest.raises(ConfigError, match="expected id=value"):
        parse_overrides(["epochs"])


def test_override_reaches_the_item_by_either_separator(bundle: Path) -> None:
    for item_id in ("train#trainer#max_epochs", "train::trainer::max_epochs"):
        config = load_config(bundle, ["train"], {item_id: 3})
        assert config.content["train"]["trainer"]["max_epochs"] == 3


def test_every_unfitting_override_is_named_with_a_hint(bundle: Path) -> None:
    overrides = {"epoch": 3, "train#trainer#max_epoch": 3, "val_interval": False, "amp": 1, "patch_size": 32}
    with pytest.raises(ConfigError) as caught:
        load_config(bundle, ["train"], overrides)
    text = str(caught.value)
    assert text.startswith("5 overrides")
    for part in ('"epochs"', '"train#trainer#max_epochs"', "a number", "true or false", "a list"):
        assert part in text


def test_later_file_wins_and_plus_extends(bundle: Path, edit: Edit) -> None:
    edit("train_continual", {"epochs": 7})
    path = bundle / "configs" / "train_continual.json"
    path.write_text('{"epochs": 7, "+run": ["$@seed"], "+amp_kwargs": {"enabled": true}}', encoding="utf-8")
    before = merge_config(bundle, ["train"]).content
    content = merge_config(bundle, ["train", "train_continual"]).content
    assert content["epochs"] == 7
    assert content["run"] == [*before["run"], "$@seed"]
    assert content["amp_kwargs"] == {**before["amp_kwargs"], "enabled": True}


def test_extending_what_is_not_there_is_refused(bundle: Path) -> None:
    (bundle / "configs" / "train_continual.json").write_text('{"+runn": []}', encoding="utf-8")
    with pytest.raises(ConfigError, match="nothing to extend"):
        merge_config(bundle, ["train", "train_continual"])


def test_all_problems_are_listed_with_file_id_argument_and_hint(bundle: Path, edit: Edit) -> None:
    edit("inference", {"inferer#overlp": 0.5, "evaluator#inferer": "@inferr", "network_def#_target_": "UNte"})
    with pytest.raises(ConfigError) as caught:
        load_config(bundle, ["inference"])
    text = str(caught.value)
    assert (
        "inference.json, inferer#overlp: SlidingWindowInferer has no argument 'overlp'. Did you mean \"overlap\"?"
        in text
    )
    assert 'refers to an id that does not exist. Did you mean "inferer"?' in text
    assert "there is no 'UNte'. Did you mean \"UNet\"?" in text
    assert "(1 of 3 problems)" in text


def test_missing_argument_is_named(bundle: Path, edit: Edit) -> None:
    edit("inference", {"inferer#roi_size": None, "inferer#_mode_": "default"})
    with pytest.raises(ConfigError, match="needs the argument 'roi_size'"):
        load_config(bundle, ["inference"])


def test_partial_components_need_not_be_complete(bundle: Path, edit: Edit) -> None:
    edit("inference", {"inferer#roi_size": None, "inferer#_mode_": "callable", "inferer#_desc_": "later"})
    check_config(merge_config(bundle, ["inference"]))


def test_problem_of_an_override_names_the_override(bundle: Path) -> None:
    with pytest.raises(ConfigError, match="--set, inferer#mode"):
        load_config(bundle, ["inference"], {"inferer#mode": "@mood"})


def test_resolved_configuration_differs_where_values_differ(bundle: Path) -> None:
    hashes = {sha256_json(resolved_json(load_config(bundle, ["train"], {"seed": seed}))) for seed in (0, 1, 1)}
    assert len(hashes) == 2


def test_resolved_configuration_has_no_metadata(bundle: Path) -> None:
    assert "_meta_" not in resolved_json(load_config(bundle, ["inference"]))


def test_workflow_equals_the_stock_one(bundle: Path) -> None:
    from monai.bundle import ConfigWorkflow

    ours = workflow(bundle, ["inference"], workflow_type="inference", overrides={"bundle_root": "."})
    configs = bundle / "configs"
    stock = ConfigWorkflow(str(configs / "inference.json"), workflow_type="inference", logging_file=False)
    for each in (ours, stock):
        each.parser.parse(True)
    assert ours.parser.get() == stock.parser.get()


def test_workflow_knows_its_root_from_any_folder(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    built = workflow(bundle, ["inference"], workflow_type="inference")
    built.initialize()
    assert built.parser.get_parsed_content("dataset_dir") == f"{bundle}/data"
    assert built.network_def.out_channels == 3


def test_values_that_do_not_suit_a_component_or_an_expression_name_it(bundle: Path) -> None:
    wrong = {"network_def#channels": [4], "device": "$torch.device('no such one')"}
    config = load_config(bundle, ["inference"], wrong)
    parser = workflow_of(config, "inference").parser
    for item_id, told in (("network_def", "UNet: cannot be made"), ("device", r"device\(.*: cannot be made")):
        with pytest.raises(ConfigError, match=told), own_errors():
            parser.get_parsed_content(item_id)


def test_what_the_machine_lacks_is_no_fault_of_the_configuration() -> None:
    with pytest.raises(RuntimeError, match="Failed to instantiate"), own_errors():
        try:
            raise OSError(28, "No space left on device")
        except OSError as error:
            raise RuntimeError("Failed to instantiate component 'UNet' with keywords: ") from error


def test_an_error_of_a_run_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError, match="run"), own_errors():
        try:
            raise ValueError("deep inside")
        except ValueError as error:
            raise RuntimeError("Failed to evaluate ConfigExpression: \"$__local_refs['train'].run()\"") from error


def test_the_channels_of_a_bundle_are_named_in_their_order() -> None:
    image = {"num_channels": 2, "channel_def": {"1": "ADC", "0": "T2W"}}
    assert input_channels({"network_data_format": {"inputs": {"image": image}}}) == ("T2W", "ADC")
    given = {"_meta_": {"network_data_format": {"inputs": {"image": image}}}}
    assert wanted_channels(given) == wanted_channels(given | {"network_def": {"in_channels": 2}}) == ("T2W", "ADC")
    assert wanted_channels(given | {"network_def": {"in_channels": 1}}) == ("channel 1",)
    for unknown in ({}, {"network_data_format": {"inputs": {"image": image | {"num_channels": 3}}}}):
        assert input_channels(unknown) == ()


def test_unknown_configuration_is_named_with_the_nearest(bundle: Path) -> None:
    with pytest.raises(ConfigError, match='Did you mean "train"'):
        load_config(bundle, ["trian"])


def test_macro_inside_the_configs_is_written_out(bundle: Path, edit: Edit) -> None:
    edit(
        "inference",
        {"patch_size": "%configs/train.json::patch_size", "first": "%second", "second": "%batch", "batch": 3},
    )
    content = load_config(bundle, ["inference"]).content
    assert content["patch_size"] == load_config(bundle, ["train"]).content["patch_size"]
    assert content["first"] == 3


def test_macros_without_end_are_refused(bundle: Path, edit: Edit) -> None:
    edit("inference", {"first": "%second", "second": "%first"})
    with pytest.raises(ConfigError, match="without end"):
        load_config(bundle, ["inference"])
