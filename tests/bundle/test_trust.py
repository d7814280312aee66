import json
from pathlib import Path
from typing import Any

import pytest

from medssl.bundle.config import merge_config
from medssl.bundle.resolve import load_config, workflow
from medssl.bundle.trust import refused_items, refused_logging, require_trust
from medssl.core.errors import ConfigError, TrustError

TOUCH = "touch MARKER"

ATTACKS: dict[str, dict[str, Any]] = {
    "import": {"x": f"$__import__('os').system('{TOUCH}')"},
    "import statement": {"imports": ["$import subprocess"]},
    "import under a trusted name": {"imports": ["$import os as torch"], "x": f"$torch.system('{TOUCH}')"},
    "two statements": {"imports": [f"$import os; os.system('{TOUCH}')"]},
    "imported function": {"imports": ["$from os import system as sorted"], "x": f"$sorted('{TOUCH}')"},
    "os call": {"x": f"$os.system('{TOUCH}')"},
    "deep walk": {"x": f"$monai.utils.misc.os.system('{TOUCH}')"},
    "subclasses": {"x": "$().__class__.__base__.__subclasses__()"},
    "lambda": {"x": f"$(lambda: os.system('{TOUCH}'))()"},
    "key function": {"x": f"$sorted(['{TOUCH}'], key=os.system)"},
    "walrus": {"x": f"$[y := os.system, y('{TOUCH}')]"},
    "comprehension": {"x": f"$[f('{TOUCH}') for f in [os.system]]"},
    "shadowed name": {"x": f"$[sorted('{TOUCH}') for sorted in [os.system]]"},
    "format": {"x": "$'{0.__globals__}'.format(@network)"},
    "f-string": {"x": f"$f\"{{os.system('{TOUCH}')}}\""},
    "MONAI's own table of items": {"x": "$__local_refs['network']"},
    "method of an item": {"x": "$@network.load_state_dict({})"},
    "quote ended by a reference": {"x": f"$'@a' if os.system('{TOUCH}') else '@a'", "a": 1},
    "expression in a list": {"x": [[f"$os.system('{TOUCH}')"]]},
    "expression in requires": {"x": {"_target_": "Identity", "_requires_": [f"$os.system('{TOUCH}')"]}},
    "expression in disabled": {"x": {"_target_": "Identity", "_disabled_": f"$os.system('{TOUCH}')"}},
    "expression in desc": {"x": {"_target_": "Identity", "_desc_": f"$os.system('{TOUCH}')"}},
    "target": {"x": {"_target_": "os.system", "command": TOUCH}},
    "target builtin": {"x": {"_target_": "eval", "source": "1"}},
    "target by expression": {"x": {"_target_": "$'os' + '.system'", "command": TOUCH}},
    "target by reference": {"y": "os.system", "x": {"_target_": "@y", "command": TOUCH}},
    "target by macro": {"y": "os.system", "x": {"_target_": "%y", "command": TOUCH}},
    "target through monai": {"x": {"_target_": "monai.utils.run_cmd", "cmd_list": TOUCH.split()}},
    "target by short name": {"x": {"_target_": "run_cmd", "cmd_list": TOUCH.split()}},
    "target through a listed module": {"x": {"_target_": "torch.utils.data.dataloader.os.system", "command": TOUCH}},
    "target through a class": {"x": {"_target_": "torch.nn.Module.load_state_dict"}},
    "target through a class of ours": {"x": {"_target_": "medssl.training.TrainingLog.attach"}},
    "target imported elsewhere": {"x": {"_target_": "monai.transforms.io.array.locate", "path": "os"}},
    "download": {"x": {"_target_": "monai.bundle.download", "name": "x"}},
    "download by short name": {"x": {"_target_": "download_url", "url": "x"}},
    "hub": {"x": {"_target_": "torch.hub.load", "repo_or_dir": "x", "model": "y"}},
    "unpickle": {"x": {"_target_": "torch.load", "f": "x", "weights_only": False}},
    "write a file": {"x": {"_target_": "medssl.core.files.write_text", "target": "MARKER", "content": ""}},
    "import a folder": {"x": {"_target_": "medssl.data.import_data", "source": ".", "target": "MARKER"}},
    "lambda transform": {"x": {"_target_": "Lambdad", "keys": "image", "func": None}},
    "reader by dotted name": {"x": {"_target_": "LoadImage", "reader": "os.system", "command": TOUCH}},
    "reader by reference": {"y": "os.system", "x": {"_target_": "LoadImage", "reader": "@y", "command": TOUCH}},
    "reader that unpickles": {"x": {"_target_": "LoadImage", "reader": "NumpyReader", "allow_pickle": True}},
    "writer by dotted name": {"x": {"_target_": "SaveImage", "writer": "os.system"}},
    "merger by dotted name": {"x": {"_target_": "PatchInferer", "splitter": None, "merger_cls": "os.system"}},
    "cache that unpickles": {"x": {"_target_": "PersistentDataset", "weights_only": False}},
    "weights from the network": {"x": {"_target_": "DenseNet121", "pretrained": True}},
    "weights by default": {"x": {"_target_": "EfficientNetBN", "model_name": "efficientnet-b0"}},
    "text written where the bundle likes": {"x": {"_target_": "LogfileHandler", "output_dir": "."}},
    "table written where the bundle likes": {"x": {"_target_": "ClassificationSaver", "output_dir": "."}},
    "tracker that reports to a host": {"x": {"_target_": "MLFlowHandler", "tracking_uri": "x"}},
    "debugger": {"x": {"_target_": "Identity", "_mode_": "debug"}},
    "debugger by flag": {"x": {"_target_": "Identity", "_debug_": True}},
    "mode by reference": {"m": "debug", "x": {"_target_": "Identity", "_mode_": "@m"}},
    "process group of a stranger": {"x": "$dist.init_process_group('gloo', init_method='tcp://host:1')"},
    "environment": {"x": "$os.environ['HOME']"},
}


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS.keys())
def test_attack_is_refused_and_never_runs(
    attack: dict[str, Any], bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (bundle / "configs" / "hostile.json").write_text(json.dumps(attack), encoding="utf-8")
    with pytest.raises(TrustError, match=r"hostile\.json, "):
        workflow(bundle, ["inference", "hostile"], workflow_type="inference")
    assert not (tmp_path / "MARKER").exists()


def test_attack_hidden_in_metadata_is_refused(bundle: Path) -> None:
    (bundle / "configs" / "metadata.json").write_text('{"description": "$print(1)"}', encoding="utf-8")
    with pytest.raises(TrustError, match=r"metadata\.json, _meta_#description"):
        load_config(bundle, ["inference"])


def test_attack_by_override_is_refused(bundle: Path) -> None:
    with pytest.raises(TrustError, match="--set, device"):
        load_config(bundle, ["inference"], {"device": "$os.system('x')"})


def test_key_that_breaks_out_of_a_relative_id_is_refused(bundle: Path, tmp_path: Path) -> None:
    # MONAI pastes the keys around an item into its expression where a relative id stands
    attack = {f"a'] or [os.system('touch {tmp_path}/MARKER') or '": {"b": "$[@#c]", "c": 1}}
    (bundle / "configs" / "hostile.json").write_text(json.dumps(attack), encoding="utf-8")
    with pytest.raises(TrustError):
        load_config(bundle, ["inference", "hostile"])


@pytest.mark.parametrize("macro", ["%/etc/other.json::x", "%../other.json", "%configs/../../other.json", "%x.yaml"])
def test_macro_outside_the_configs_is_refused(bundle: Path, edit: Any, macro: str) -> None:
    (bundle.parent / "other.json").write_text('{"x": 1}', encoding="utf-8")
    edit("inference", {"patch_size": macro})
    with pytest.raises(ConfigError, match="leaves the bundle's configs"):
        load_config(bundle, ["inference"])


def test_macro_to_a_macro_is_followed_before_the_guard_looks(bundle: Path, edit: Any) -> None:
    edit("inference", {"patch_size": "%first", "first": "%second", "second": "$os.getcwd()"})
    with pytest.raises(TrustError, match="patch_size"):
        load_config(bundle, ["inference"])


def test_every_refused_item_is_listed(bundle: Path, edit: Any) -> None:
    edit("inference", {"device": "$open('x')", "network": {"_target_": "torch.load", "f": "x"}})
    found = refused_items(merge_config(bundle, ["inference"]))
    assert [finding.where for finding in found] == ["inference.json, device", "inference.json, network"]


def test_trusted_bundle_is_shown_and_let_through(bundle: Path, edit: Any) -> None:
    edit("inference", {"extra": "$os.getcwd()"})
    found = require_trust(merge_config(bundle, ["inference"]), trust=True)
    assert [finding.code for finding in found] == ["trust-expression"]


def test_plain_configuration_passes(bundle: Path) -> None:
    assert refused_items(merge_config(bundle, ["inference"])) == []


@pytest.mark.parametrize(
    "line",
    [
        "class=FileHandler",
        "class=handlers.SocketHandler",
        "class=os.system",
        "class=handlers.os.system",
        "args=(__import__('os').system('x'),)",
        "kwargs={'a': open('x')}",
    ],
)
def test_logging_that_runs_code_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "logging.conf"
    path.write_text(f"[handler_x]\nlevel=INFO\n{line}\n", encoding="utf-8")
    assert [finding.code for finding in refused_logging(path)] == ["trust-logging"]


def test_module_beside_the_configs_is_refused(bundle: Path) -> None:
    # MONAI puts the bundle on the module path, so this would stand in for the real itk once a reader asks for it
    (bundle / "itk.py").write_text("", encoding="utf-8")
    with pytest.raises(TrustError, match=r"itk\.py"):
        load_config(bundle, ["inference"])


def test_key_that_becomes_a_relative_id_in_a_second_pass_is_refused(bundle: Path) -> None:
    attack = {"p": {"k@": {"b": "$@#c", "c": 1}}}
    (bundle / "configs" / "hostile.json").write_text(json.dumps(attack), encoding="utf-8")
    with pytest.raises(ConfigError):
        load_config(bundle, ["inference", "hostile"])


def test_logging_to_the_console_passes(tmp_path: Path) -> None:
    path = tmp_path / "logging.conf"
    path.write_text("[handler_x]\nclass=StreamHandler\nargs=(sys.stdout,)\n", encoding="utf-8")
    assert refused_logging(path) == []
