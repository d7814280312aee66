"""Class scores of many images: one bad image fails alone, finished ones are kept, nothing is overwritten."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
from inference.slice_bundle import NAMES, small_slice_bundle, write_images

from medssl.bundle.classifier import load_classifier
from medssl.core.errors import ConfigError
from medssl.inference.cases import gather_cases
from medssl.inference.classes import classify_batch


@pytest.fixture
def predictor(tmp_path: Path):
    return load_classifier(small_slice_bundle(tmp_path / "small_ct_slices"), device="cpu", batch_size=3)


def _cases(folder: Path):
    return gather_cases([write_images(folder)], part="training")


def test_every_image_gets_its_probabilities_and_a_row(tmp_path: Path, predictor) -> None:
    records = classify_batch(predictor, _cases(tmp_path / "data"), tmp_path / "out")
    assert {record["state"] for record in records} == {"done"}
    rows = list(csv.reader((tmp_path / "out" / "predictions.csv").open()))
    assert rows[0] == ["case", "predicted", *NAMES]
    content = json.loads((tmp_path / "out" / "image_0_classes.json").read_text())
    assert sum(content["probabilities"].values()) == pytest.approx(1.0, abs=1e-6)
    assert rows[1][2:] == [str(value) for value in content["probabilities"].values()]


def test_batches_do_not_change_a_result(tmp_path: Path, predictor) -> None:
    images = [predictor.read(case.paths[0]) for case in _cases(tmp_path / "data")]
    together = torch.tensor(predictor.probabilities(images))
    alone = torch.tensor([predictor.probabilities([image])[0] for image in images])
    assert torch.allclose(together, alone, atol=1e-5)


def test_a_broken_image_fails_alone(tmp_path: Path, predictor) -> None:
    cases = _cases(tmp_path / "data")
    (tmp_path / "data" / "1.png").write_bytes(b"no image")
    (tmp_path / "data" / "2.png").unlink()
    records = {record["id"]: record for record in classify_batch(predictor, cases, tmp_path / "out")}
    assert records["image_1"]["finding"]["code"] == "file-format"
    assert records["image_2"]["finding"]["code"] == "file-missing"
    assert sum(record["state"] == "done" for record in records.values()) == len(cases) - 2


def test_finished_images_are_kept_and_changed_ones_done_again(tmp_path: Path, predictor) -> None:
    cases = _cases(tmp_path / "data")
    classify_batch(predictor, cases, tmp_path / "out")
    (tmp_path / "data" / "0.png").write_bytes((tmp_path / "data" / "1.png").read_bytes())
    (tmp_path / "out" / "image_3_classes.json").unlink()
    states = {record["id"]: record["state"] for record in classify_batch(predictor, cases, tmp_path / "out")}
    assert [name for name, state in states.items() if state == "done"] == ["image_0", "image_3"]
    assert len(list(csv.reader((tmp_path / "out" / "predictions.csv").open()))) == 1 + len(cases)


def test_files_that_no_run_wrote_stay(tmp_path: Path, predictor) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "image_0_classes.json").write_text("mine")
    with pytest.raises(ConfigError, match="Choose a new folder"):
        classify_batch(predictor, _cases(tmp_path / "data"), tmp_path / "out")


def test_scores_that_are_not_finite_are_no_result(tmp_path: Path, predictor) -> None:
    predictor._network.fc.bias.data[0] = float("nan")
    records = classify_batch(predictor, _cases(tmp_path / "data"), tmp_path / "out")
    assert {record["finding"]["code"] for record in records} == {"not-finite"}
