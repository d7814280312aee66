"""Runs over many cases: record, resume, failures, kills."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from inference.tiny_bundle import make_tiny_bundle, tiny_views, write_image

from medssl.bundle.predictor import load_predictor
from medssl.core import exit_codes
from medssl.core.errors import ConfigError
from medssl.inference import batch
from medssl.inference.batch import case_uncertainty, exit_code, run_batch
from medssl.inference.cases import gather_cases

TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(scope="module")
def predictor(bundle):
    with load_predictor(bundle, device="cpu", workers=2) as loaded:
        yield loaded


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    for seed in range(4):
        write_image(tmp_path / "images" / f"case{seed}.nii.gz", seed=seed)
    return tmp_path / "images"


def _states(records):
    return {record["id"]: record["state"] for record in records}


def _run(predictor, images, out, **options):
    return run_batch(predictor, gather_cases([images], outside=out), out, **options)


def test_every_case_is_written_and_recorded(predictor, images, tmp_path):
    seen = []
    records = _run(predictor, images, tmp_path / "out", on_case=lambda record: seen.append(record["id"]))
    content = json.loads((tmp_path / "out" / "run.json").read_text())
    assert sorted(_states(content["cases"])) == sorted(seen) == [f"case{i}" for i in range(4)]
    assert content["bundle"]["name"] == "tiny"
    assert content["finished"] and content["peak_memory_bytes"] > 0
    for record in records:
        assert nib.load(tmp_path / "out" / record["output"]).shape == (18, 15, 20)
        assert set(record["seconds"]) == {"read", "network", "restore", "write", "total"}


def test_a_run_into_the_folder_of_its_images_is_refused(predictor, images):
    before = {path.name: path.read_bytes() for path in images.iterdir()}
    with pytest.raises(ConfigError, match="an image of this run"):
        run_batch(predictor, gather_cases([images / "case0.nii.gz"]), images)
    assert before == {path.name: path.read_bytes() for path in images.iterdir()}


def test_finished_cases_are_not_touched(predictor, images, tmp_path, monkeypatch):
    _run(predictor, images, tmp_path / "out")
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.nii.gz")}
    monkeypatch.setattr(predictor, "read", None)  # any attempt to compute fails
    records = _run(predictor, images, tmp_path / "out")
    assert set(_states(records).values()) == {"skipped"}
    assert before == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.nii.gz")}


def test_only_what_is_missing_damaged_or_new_is_computed_again(predictor, images, tmp_path):
    out = tmp_path / "out"
    _run(predictor, images, out)
    (out / "case0.nii.gz").unlink()
    (out / "case1.nii.gz").write_bytes((out / "case1.nii.gz").read_bytes()[:-20])
    write_image(images / "case2.nii.gz", seed=9)
    records = _run(predictor, images, out)
    assert _states(records) == {"case0": "done", "case1": "done", "case2": "done", "case3": "skipped"}
    assert set(_states(_run(predictor, images, out)).values()) == {"skipped"}


def test_cases_can_be_computed_again_on_demand(predictor, images, tmp_path):
    _run(predictor, images, tmp_path / "out")
    assert set(_states(_run(predictor, images, tmp_path / "out", skip_finished=False)).values()) == {"done"}


def test_probabilities_are_written_and_checked_too(predictor, images, tmp_path):
    out = tmp_path / "out"
    _run(predictor, images, out, probabilities=True)
    probabilities = nib.load(out / "case0_probabilities.nii.gz")
    assert probabilities.shape == (18, 15, 20, 3)
    assert probabilities.get_data_dtype() == np.float32
    (out / "case0_probabilities.nii.gz").unlink()
    assert _states(_run(predictor, images, out, probabilities=True))["case0"] == "done"


def test_results_do_not_depend_on_the_order_or_the_number_of_lanes(bundle, predictor, images, tmp_path):
    _run(predictor, images, tmp_path / "two")
    with load_predictor(bundle, device="cpu", workers=1) as alone:
        run_batch(alone, gather_cases([images])[::-1], tmp_path / "one")
    for path in (tmp_path / "two").glob("*.nii.gz"):
        assert path.read_bytes() == (tmp_path / "one" / path.name).read_bytes()


@pytest.mark.parametrize("stage", ["read", "score", "labels"])
def test_a_planted_error_is_the_finding_of_its_case(predictor, images, tmp_path, monkeypatch, stage):
    original, calls = getattr(predictor, stage), []

    def sometimes(*arguments, **options):
        calls.append(1)
        if len(calls) == 2:
            raise RuntimeError("planted")
        return original(*arguments, **options)

    monkeypatch.setattr(predictor, stage, sometimes)
    records = _run(predictor, images, tmp_path / "out")
    (failed,) = [record for record in records if record["state"] == "failed"]
    assert "planted" in failed["finding"]["text"]
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 3


def test_a_failed_write_leaves_nothing_behind(predictor, images, tmp_path, monkeypatch):
    def full_disk(*_arguments, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(batch, "write_volume", full_disk)
    records = _run(predictor, images, tmp_path / "out")
    assert all("No space left" in record["finding"]["text"] for record in records)
    assert exit_code(records) == exit_codes.NOTHING_DONE
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["run.json"]


def test_a_case_that_does_not_fit_is_a_finding(predictor, images, tmp_path, monkeypatch):
    from medssl.inference import memory

    monkeypatch.setattr(memory, "free_memory", lambda: 2**20)
    records = _run(predictor, images, tmp_path / "out")
    assert {record["finding"]["code"] for record in records} == {"memory"}


def test_a_case_that_hangs_is_given_up(predictor, images, tmp_path, monkeypatch):
    original = predictor.labels

    def hang(case):
        if hang.first:
            hang.first = False
            time.sleep(4)
        return original(case)

    hang.first = True
    monkeypatch.setattr(predictor, "labels", hang)
    records = _run(predictor, images, tmp_path / "out", stall_seconds=1.0)
    assert sorted(_states(records).values()) == ["done", "done", "done", "failed"]


def test_exit_codes_tell_how_much_was_done():
    done, failed = {"state": "done"}, {"state": "failed"}
    assert exit_code([done, {"state": "skipped"}]) == exit_codes.OK
    assert exit_code([done, failed]) == exit_codes.SOME_FAILED
    assert exit_code([failed]) == exit_codes.NOTHING_DONE


_SLOW_RUN = """
import sys, time
sys.path.insert(0, {tests!r})
from pathlib import Path
import torch
torch.set_num_threads(1)
from medssl.inference.predictor import Predictor
score = Predictor.score
def slow(self, *arguments, **options):
    time.sleep(0.3)
    return score(self, *arguments, **options)
Predictor.score = slow
from medssl.cli.main import main
sys.argv = ["medssl", "infer", {bundle!r}, {images!r}, "--out", {out!r}, "--device", "cpu", "--workers", "1"]
main()
"""


def _interrupt(bundle, images, out, how):
    source = _SLOW_RUN.format(tests=str(TESTS), bundle=str(bundle), images=str(images), out=str(out))
    process = subprocess.Popen([sys.executable, "-c", source], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not list(out.glob("case*.nii.gz")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, how)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors.decode()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_an_interrupted_run_is_continued(bundle, predictor, images, tmp_path, how):
    out = tmp_path / "out"
    returned, errors = _interrupt(bundle, images, out, how)
    assert returned == {signal.SIGKILL: -9, signal.SIGTERM: exit_codes.STOPPED}[how], errors
    finished = {path.name for path in out.glob("case*.nii.gz")}
    assert 1 <= len(finished) < 4
    for name in finished:  # nothing half-written bears a final name
        assert nib.load(out / name).get_fdata().shape == (18, 15, 20)
    states = _states(_run(predictor, images, out))
    # an output may have got its name in the moment before it was recorded; nothing else is computed twice
    assert sum(states[name.removesuffix(".nii.gz")] == "skipped" for name in finished) >= len(finished) - 1
    assert not list(out.glob(".tmp-*"))
    assert len(list(out.glob("case*.nii.gz"))) == 4


def test_uncertainty_of_a_case_is_the_sum_of_its_map_over_what_was_found() -> None:
    labels = np.zeros((3, 4, 5), np.uint8)
    labels[0, 0, :4] = 2
    maps = {"disagreement": np.full(labels.shape, 0.5, np.float32), "variance": np.zeros(labels.shape, np.float32)}
    assert case_uncertainty(labels, maps) == {"disagreement": 60 * 0.5 / 4, "variance": 0.0}


def test_case_where_nothing_was_found_counts_as_one_voxel() -> None:
    labels = np.zeros((2, 2, 2), np.uint8)
    assert case_uncertainty(labels, {"disagreement": np.ones(labels.shape, np.float32)}) == {"disagreement": 8.0}


def test_maps_of_uncertainty_lie_on_the_grid_of_the_image_and_change_no_label(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "views", spacing=(1.5, 1.5, 1.5), network=tiny_views())
    image = write_image(tmp_path / "case.nii.gz", shape=(20, 18, 22))
    for name, asked in (("plain", False), ("maps", True)):
        with load_predictor(bundle, device="cpu", uncertainty=asked) as predictor:
            (record,) = run_batch(predictor, gather_cases([image]), tmp_path / name)
    found = nib.load(tmp_path / "maps" / "case_disagreement.nii.gz")
    assert found.shape == nib.load(image).shape
    assert np.allclose(found.affine, nib.load(image).affine)
    assert found.get_fdata().max() > 0
    labels = [np.asarray(nib.load(tmp_path / name / "case.nii.gz").dataobj) for name in ("plain", "maps")]
    assert np.array_equal(*labels)
    assert record["uncertainty"]["variance"] > 0
    assert set(record["more_outputs"]) == {"case_disagreement.nii.gz", "case_variance.nii.gz"}


def test_maps_that_are_asked_for_later_are_made_then(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "views", network=tiny_views())
    cases = gather_cases([write_image(tmp_path / "case.nii.gz", shape=(16, 16, 16))])
    states = []
    for asked in (False, True, True):
        with load_predictor(bundle, device="cpu", uncertainty=asked) as predictor:
            (record,) = run_batch(predictor, cases, tmp_path / "out")
        states.append(record["state"])
    assert states == ["done", "done", "skipped"]
    assert "uncertainty" in record
