"""`medssl pretrain`: from unlabelled images to an encoder, and from the encoder to a fine-tuned bundle."""

from __future__ import annotations

import json
from pathlib import Path

from bundle.pretraining_bundle import write_pretraining_bundle
from phantoms import write_phantoms

from medssl.cli.main import run
from medssl.core import exit_codes


def test_finetuning_starts_from_what_was_pretrained(bundles: Path, tmp_path: Path, capsys) -> None:
    source = write_pretraining_bundle(bundles, tmp_path / "phantom_mri_source")
    manifest = write_phantoms(tmp_path / "data", training=2, validation=1)
    folder = tmp_path / "phantom_mri_pretrained"
    assert run(["pretrain", str(source), "--manifest", str(manifest), "--out", str(folder)]) == exit_codes.OK
    assert "encoder.pt" in capsys.readouterr().out
    out = tmp_path / "phantom_mri_new"
    code = run(["finetune", str(folder), "--manifest", str(manifest), "--out", str(out), "--epochs", "1"])
    report = json.loads((out / "results" / "weights.json").read_text())
    assert code == exit_codes.OK
    assert report["source"]["file"] == "encoder.pt"
    assert report["loaded"] and report["missing"]


def test_broken_images_are_named_and_nothing_is_made(bundles: Path, tmp_path: Path, capsys) -> None:
    source = write_pretraining_bundle(bundles, tmp_path / "phantom_mri_source")
    manifest = write_phantoms(tmp_path / "data", training=2, validation=1)
    (tmp_path / "data" / "phantom_0_0.nii.gz").unlink()
    code = run(["pretrain", str(source), "--manifest", str(manifest), "--out", str(tmp_path / "run")])
    assert code == exit_codes.NOTHING_DONE
    assert "phantom_0" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
