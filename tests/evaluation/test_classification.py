"""A folder of class probabilities: matched by name, and everything that may be wrong with one case."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from inference.slice_bundle import NAMES, write_images

from medssl.core.errors import ConfigError
from medssl.data.manifest import load_manifest
from medssl.evaluation.classification import SUFFIX, evaluate_classes
from medssl.inference.classes import SUFFIX as WRITTEN


def _predict(folder: Path, manifest: Path, **changes: str) -> None:
    folder.mkdir()
    for case in load_manifest(manifest).test:
        share = 0.9 if case.class_ == NAMES[1] else 0.1
        content = {"probabilities": {NAMES[1]: share, NAMES[0]: 1 - share}}
        text = changes.get(case.id, json.dumps(content))
        if text:
            (folder / f"{case.id}{SUFFIX}").write_text(text)


def test_predictions_are_looked_for_where_inference_writes_them() -> None:
    assert SUFFIX == WRITTEN


def test_probabilities_are_matched_by_the_name_of_their_class(tmp_path: Path) -> None:
    manifest = write_images(tmp_path / "data")
    _predict(tmp_path / "out", manifest)
    found = evaluate_classes(load_manifest(manifest), predictions=tmp_path / "out")
    assert found.metrics["auc"].value == found.metrics["accuracy"].value == 1.0
    assert found.confusion == [[2, 0], [0, 2]]
    assert "patient 6" not in json.dumps(found.to_json())


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "prediction-missing"),
        ("{", "prediction-unreadable"),
        ('{"probabilities": {"finding": 1.0}}', "prediction-unreadable"),
        ('{"probabilities": {"finding": 0.9, "no finding": 0.9}}', "prediction-unreadable"),
        ('{"probabilities": {"finding": NaN, "no finding": 0.9}}', "prediction-unreadable"),
        ('{"probabilities": [0.1, 0.9]}', "prediction-unreadable"),
    ],
)
def test_a_prediction_that_cannot_be_used_fails_alone(tmp_path: Path, text: str, code: str) -> None:
    manifest = write_images(tmp_path / "data")
    _predict(tmp_path / "out", manifest, image_13=text)
    found = evaluate_classes(load_manifest(manifest), predictions=tmp_path / "out")
    assert [case.id for case in found.failed] == ["image_13"]
    assert [finding.code for finding in found.findings] == [code]


def test_predictions_of_other_classes_are_refused(tmp_path: Path) -> None:
    manifest = write_images(tmp_path / "data")
    _predict(tmp_path / "out", manifest)
    run = {"labels": {"0": "no finding", "1": "tumour"}, "cases": []}
    (tmp_path / "out" / "run.json").write_text(json.dumps(run))
    with pytest.raises(ConfigError, match="no finding, finding, found no finding, tumour"):
        evaluate_classes(load_manifest(manifest), predictions=tmp_path / "out")


def test_a_part_without_classes_is_refused(tmp_path: Path) -> None:
    manifest = write_images(tmp_path / "data", test=0)
    _predict(tmp_path / "out", manifest)
    with pytest.raises(ConfigError, match="training"):
        evaluate_classes(load_manifest(manifest), predictions=tmp_path / "out")
