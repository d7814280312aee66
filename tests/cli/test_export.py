from pathlib import Path

import pytest

from medssl.cli.main import run


def test_export_writes_the_file_and_says_how_far_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "model.ts"
    assert run(["export", "hippocampus_mri_supervised", "--to", "torchscript", "--out", str(out)]) == 0
    assert out.is_file()
    assert "largest difference to the network" in capsys.readouterr().out


def test_unknown_form_is_an_error_of_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["export", "hippocampus_mri_supervised", "--to", "tensorrt", "--out", str(tmp_path / "x")]
    assert run(arguments) == 1
    assert "expected one of torchscript, onnx, pt2" in capsys.readouterr().err
