import json
from pathlib import Path
from typing import Any

import pytest
import torch

from medssl.bundle.checks.running import network_with_weights
from medssl.bundle.export import ExportError, export_bundle
from medssl.core.errors import CheckpointError, ConfigError


@pytest.mark.parametrize("form", ["torchscript", "onnx", "pt2"])
def test_exported_form_computes_what_the_network_computes(runnable: Path, tmp_path: Path, form: Any) -> None:
    record = export_bundle(runnable, to=form, out=tmp_path / "model.bin")
    assert (tmp_path / "model.bin").is_file()
    assert record.difference <= 1e-4 * record.largest_logit
    assert record.largest_logit > 0


@pytest.mark.parametrize("form", ["torchscript", "onnx", "pt2"])
def test_open_shape_takes_other_sizes(runnable: Path, tmp_path: Path, form: Any) -> None:
    record = export_bundle(runnable, to=form, out=tmp_path / "model.bin", open_shape=True)
    assert record.shapes == ((2, 1, 16, 16, 16), (1, 1, 32, 32, 32))


def test_torchscript_carries_what_deploy_reads(runnable: Path) -> None:
    export_bundle(runnable, to="torchscript")
    files = {"metadata.json": "", "inference.json": "", "medssl_export.json": ""}
    module = torch.jit.load(str(runnable / "models" / "model.ts"), _extra_files=files)
    assert json.loads(files["metadata.json"])["name"] == json.loads(_text(runnable, "metadata"))["name"]
    assert json.loads(files["inference.json"]) == json.loads(_text(runnable, "inference"))
    assert json.loads(files["medssl_export.json"])["form"] == "torchscript"
    image = torch.randn(1, 1, 16, 16, 16)
    with torch.inference_mode():
        assert torch.allclose(module(image), network_with_weights(runnable)(image), atol=1e-5)


def _text(bundle: Path, name: str) -> str:
    return (bundle / "configs" / f"{name}.json").read_text(encoding="utf-8")


def test_form_that_computes_something_else_is_not_written(
    runnable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medssl.bundle.export.TOLERANCE", -1.0)
    with pytest.raises(ExportError, match="Nothing was written"):
        export_bundle(runnable, to="pt2", out=tmp_path / "model.pt2")
    assert list(tmp_path.glob("*.pt2")) == []


def test_missing_weights_are_named(runnable: Path) -> None:
    (runnable / "models" / "model.pt").unlink()
    with pytest.raises(CheckpointError, match="found no file"):
        export_bundle(runnable, to="pt2")


def test_unknown_form_is_refused(runnable: Path) -> None:
    with pytest.raises(ConfigError, match="torchscript, onnx, pt2"):
        export_bundle(runnable, to="tensorrt")  # type: ignore[arg-type]
