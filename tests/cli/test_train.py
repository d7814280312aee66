"""`medssl train`: overrides reach the run, wrong ones are refused, broken data are not trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from phantoms import write_phantoms

from medssl.cli.main import run
from medssl.core import exit_codes

_BUNDLE = "hippocampus_mri_supervised"
_QUICK = {"epochs": 1, "iterations_per_epoch": 2, "amp": "false", "num_workers": 0, "val_interval": 1}


def _train(folder: Path, **overrides: object) -> int:
    settings = [word for key, value in {**_QUICK, **overrides}.items() for word in ("--set", f"{key}={value}")]
    manifest = folder / "data" / "manifest.json"
    return run(["train", _BUNDLE, "--manifest", str(manifest), "--out", str(folder / "run"), *settings])


def test_overrides_reach_the_run_and_are_recorded(tmp_path: Path) -> None:
    write_phantoms(tmp_path / "data", training=2, validation=1)
    assert _train(tmp_path, learning_rate=0.01) == exit_codes.OK
    settings = json.loads((tmp_path / "run" / "results" / "resolved.json").read_text())
    assert settings["learning_rate"] == 0.01
    assert (tmp_path / "run" / "models" / "model.pt").is_file()


def test_an_unknown_override_is_refused_with_the_nearest_name(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_phantoms(tmp_path / "data", training=2, validation=1)
    assert _train(tmp_path, learning_rte=0.01) == exit_codes.USAGE
    assert "learning_rate" in capsys.readouterr().err


def test_broken_data_are_named_and_not_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    write_phantoms(tmp_path / "data", training=2, validation=1)
    (tmp_path / "data" / "phantom_0_label.nii.gz").unlink()
    assert _train(tmp_path) == exit_codes.NOTHING_DONE
    assert "phantom_0" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
