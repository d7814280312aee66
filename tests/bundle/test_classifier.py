"""From a bundle to a predictor of classes, which gives what stock MONAI gives, and refuses what it does not know."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from inference.slice_bundle import small_slice_bundle, write_images

from medssl.bundle.catalog import classifies, shipped_bundles
from medssl.bundle.classifier import load_classifier
from medssl.bundle.resolve import run_workflow, workflow
from medssl.core.errors import CheckpointError, ConfigError


def _changed(bundle: Path, **changes: Any) -> Path:
    path = bundle / "configs" / "inference.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    for item_id, transforms in changes.items():
        content[item_id]["transforms"] = transforms(content[item_id]["transforms"])
    path.write_text(json.dumps(content), encoding="utf-8")
    return bundle


def test_bundles_say_whether_they_classify() -> None:
    found = {name for name, bundle in shipped_bundles().items() if classifies(bundle)}
    assert found == {"ct_slice_reduced_contrast"}


def test_probabilities_are_those_of_the_stock_run(tmp_path: Path) -> None:
    bundle, manifest = small_slice_bundle(tmp_path / "small_ct_slices"), write_images(tmp_path / "data", training=3)
    overrides = {"dataset_dir": str(manifest.parent), "output_dir": str(tmp_path / "stock"), "device": "cpu"}
    run_workflow(workflow(bundle, ("inference",), workflow_type="inference", overrides=overrides))
    rows = list(csv.reader((tmp_path / "stock" / "predictions.csv").open()))
    predictor = load_classifier(bundle, device="cpu")
    assert len(rows) == 11
    for name, *values in rows:
        found = predictor.probabilities([predictor.read(Path(name))])[0]
        assert found == pytest.approx([float(value) for value in values], abs=1e-5)


def test_missing_weights_are_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.pt"):
        load_classifier(small_slice_bundle(tmp_path / "small_ct_slices", weights=False), device="cpu")


def test_an_image_that_is_loaded_otherwise_is_refused(tmp_path: Path) -> None:
    bundle = _changed(small_slice_bundle(tmp_path / "b_c"), preprocessing=lambda steps: steps[1:])
    with pytest.raises(ConfigError, match="LoadImaged and EnsureChannelFirstd first"):
        load_classifier(bundle, device="cpu")


def test_scores_without_softmax_are_refused(tmp_path: Path) -> None:
    bundle = _changed(small_slice_bundle(tmp_path / "b_c"), postprocessing=lambda steps: steps[1:])
    with pytest.raises(ConfigError, match="softmax"):
        load_classifier(bundle, device="cpu")


def test_no_images_at_once_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--batch-size"):
        load_classifier(small_slice_bundle(tmp_path / "b_c"), device="cpu", batch_size=0)
