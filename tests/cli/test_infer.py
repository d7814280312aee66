"""`medssl infer` from the command line."""

import json
import subprocess
import sys

import pytest
from faults.broken_files import write_good_file
from inference.tiny_bundle import make_tiny_bundle, tiny_views

from medssl.cli.main import run
from medssl.core import exit_codes


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return str(make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "tiny"))


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    for seed in range(2):
        write_good_file(tmp_path / "images" / f"case{seed}.nii.gz", seed=seed)
    return tmp_path / "images"


def test_a_folder_is_segmented_and_a_second_run_skips(bundle, images, tmp_path, capsys):
    command = ["infer", bundle, str(images), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert run(command) == exit_codes.OK
    assert "2 done, 0 skipped, 0 failed" in capsys.readouterr().out
    assert run(command) == exit_codes.OK
    assert "0 done, 2 skipped, 0 failed" in capsys.readouterr().out


def test_the_plan_and_each_case_are_shown(bundle, images, tmp_path, capsys):
    run(["infer", bundle, str(images), "--out", str(tmp_path / "out"), "--device", "cpu"])
    shown = capsys.readouterr().out
    assert "tiny: cpu" in shown
    assert "2/2 case" in shown


def test_a_missing_file_is_a_finding_and_the_rest_is_done(bundle, images, tmp_path, capsys):
    lost = str(tmp_path / "lost.nii.gz")
    command = ["infer", bundle, str(images), lost, "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert run(command) == exit_codes.SOME_FAILED
    assert "[file-missing]" in capsys.readouterr().err
    cases = json.loads((tmp_path / "out" / "run.json").read_text())["cases"]
    assert sorted(case["state"] for case in cases) == ["done", "done", "failed"]


def test_nothing_done_is_told_apart(bundle, tmp_path):
    command = ["infer", bundle, str(tmp_path / "lost.nii.gz"), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert run(command) == exit_codes.NOTHING_DONE


@pytest.mark.parametrize(
    "options", [["--overlap", "2"], ["--part", "tests"], ["--device", "gpu"], ["--batch-size", "x"]]
)
def test_wrong_options_are_usage_errors(bundle, images, tmp_path, options):
    assert run(["infer", bundle, str(images), "--out", str(tmp_path / "out"), *options]) == exit_codes.USAGE


def test_an_unknown_bundle_is_a_usage_error(images, tmp_path, capsys):
    assert run(["infer", "no_such", str(images), "--out", str(tmp_path / "out")]) == exit_codes.USAGE
    assert "no_such" in capsys.readouterr().err


def test_one_part_of_a_manifest_is_segmented(bundle, images, tmp_path):
    manifest = {
        "name": "n",
        "modality": "MR",
        "labels": {"0": "background"},
        "training": [{"id": "a", "image": "case0.nii.gz"}],
        "test": [{"id": "b", "image": "case1.nii.gz", "patient": "Jane Doe"}],
    }
    (images / "manifest.json").write_text(json.dumps(manifest))
    command = ["infer", bundle, str(images / "manifest.json"), "--part", "test", "--out", str(tmp_path / "out")]
    assert run([*command, "--device", "cpu"]) == exit_codes.OK
    assert (tmp_path / "out" / "b.nii.gz").is_file()
    assert not (tmp_path / "out" / "a.nii.gz").exists()
    assert "Jane" not in (tmp_path / "out" / "run.json").read_text()


def test_help_imports_no_torch():
    source = "import sys; from medssl.cli.main import run; run(['infer', '--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", source], capture_output=True, check=False).returncode == 0


def test_uncertain_cases_are_named_first(images, tmp_path, capsys):
    bundle = str(make_tiny_bundle(tmp_path / "views", network=tiny_views()))
    assert run(["infer", bundle, str(images), "--out", str(tmp_path / "out"), "--device", "cpu", "--uncertainty"]) == 0
    assert "look at case" in capsys.readouterr().out
    assert (tmp_path / "out" / "case0_variance.nii.gz").is_file()


def test_uncertainty_of_a_network_that_has_none_is_refused(bundle, images, tmp_path, capsys):
    assert run(["infer", bundle, str(images), "--out", str(tmp_path / "out"), "--uncertainty"]) == exit_codes.USAGE
    assert "several views or members" in capsys.readouterr().err
