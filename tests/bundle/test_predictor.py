"""Loading a bundle for inference: strict weights, checked options, guarded configuration."""

import json

import pytest
import torch
from inference.tiny_bundle import make_tiny_bundle

from medssl.bundle.predictor import choose_device, load_predictor
from medssl.core.errors import CheckpointError, ConfigError, TrustError


@pytest.fixture
def bundle(tmp_path):
    return make_tiny_bundle(tmp_path / "bundle")


def _save(bundle, change):
    path = bundle / "models" / "model.pt"
    state = torch.load(path, weights_only=True)
    torch.save(change(state), path)


class _Hostile:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda state: dict(list(state.items())[1:]), "weights-do-not-fit"),
        (lambda state: state | {"more": torch.zeros(1)}, "weights-do-not-fit"),
        (lambda state: {"model": state}, "weights-format"),
        (lambda state: {key: value * float("nan") for key, value in state.items()}, "weights-not-finite"),
        (lambda state: {"x": _Hostile()}, "weights-format"),
    ],
)
def test_weights_that_are_not_exactly_the_networks_are_refused(bundle, change, code, capsys):
    _save(bundle, change)
    with pytest.raises(CheckpointError) as caught:
        load_predictor(bundle)
    assert caught.value.code == code
    assert "executed" not in capsys.readouterr().out


def test_missing_weights_are_named(bundle):
    (bundle / "models" / "model.pt").unlink()
    with pytest.raises(CheckpointError, match=r"models/model\.pt"):
        load_predictor(bundle)


def test_the_weights_that_the_configuration_names_are_loaded(bundle):
    path = bundle / "configs" / "inference.json"
    loader = {
        "_target_": "CheckpointLoader",
        "load_path": "$@bundle_root + '/models/best.pt'",
        "load_dict": {"model": "@network"},
    }
    path.write_text(json.dumps(json.loads(path.read_text()) | {"handlers": [loader]}))
    with pytest.raises(CheckpointError, match=r"best\.pt"):
        load_predictor(bundle)
    (bundle / "models" / "model.pt").rename(bundle / "models" / "best.pt")
    load_predictor(bundle).close()


def test_code_in_a_bundle_needs_trust(bundle):
    path = bundle / "configs" / "inference.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"output_dir": "$__import__('os').getcwd()"}))
    with pytest.raises(TrustError):
        load_predictor(bundle)
    load_predictor(bundle, trust=True).close()


@pytest.mark.parametrize(
    "options", [{"overlap": 1.0}, {"batch_size": 0}, {"workers": 0}, {"device": "gpu"}, {"device": "cuda:99"}]
)
def test_options_out_of_range_are_refused(bundle, options):
    with pytest.raises(ConfigError, match="--"):
        load_predictor(bundle, **options)


def test_a_device_is_the_same_by_any_name():
    assert choose_device("cpu") == torch.device("cpu")
    assert choose_device("auto").type in ("cpu", "cuda")


def test_a_configuration_without_an_inferer_is_refused(bundle):
    path = bundle / "configs" / "inference.json"
    content = json.loads(path.read_text())
    del content["inferer"]
    path.write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="found no inferer"):
        load_predictor(bundle)
