"""Twelve broken files among twenty good ones: twenty results, twelve typed findings, bounded memory."""

import json
import os

import pytest
from faults.broken_files import make_broken_files, ordinary_user, write_good_file
from inference.tiny_bundle import make_tiny_bundle

from medssl.cli.main import run
from medssl.core import exit_codes
from medssl.inference.memory import peak_memory

CODES = {
    "truncated": "file-truncated",
    "text": "file-format",
    "two_d": "image-dimensions",
    "four_d": "image-dimensions",
    "rgb": "image-rgb",
    "nan_voxels": "image-not-finite",
    "zero_spacing": "spacing",
    "singular_affine": "affine",
    "huge_header": "file-oversized",
    "empty": "file-empty",
    "no_permission": "file-permission",
    "dangling_link": "file-missing",
}


@pytest.fixture
def mixed(tmp_path):
    folder = tmp_path / "mixed"
    make_broken_files(folder)
    for number in range(20):
        write_good_file(folder / f"good{number:02}.nii.gz", seed=number)
    return folder


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="file modes are those of POSIX")
@pytest.mark.timeout(120)
def test_twelve_broken_files_among_twenty_good_ones(mixed, tmp_path):
    bundle = make_tiny_bundle(tmp_path / "bundle")
    command = ["infer", str(bundle), "--device", "cpu"]
    # A first run imports everything, which the other user may not be allowed to.
    run([*command, str(mixed / "good00.nii.gz"), "--out", str(tmp_path / "first")])
    before = peak_memory()
    with ordinary_user(tmp_path):
        assert run([*command, str(mixed), "--out", str(tmp_path / "out")]) == exit_codes.SOME_FAILED
    cases = json.loads((tmp_path / "out" / "run.json").read_text())["cases"]
    assert {case["id"]: case["finding"]["code"] for case in cases if case["finding"]} == CODES
    assert len(list((tmp_path / "out").glob("good*.nii.gz"))) == len(list((tmp_path / "out").glob("*.nii.gz"))) == 20
    assert peak_memory() - before < 200 * 2**20


def test_a_second_run_looks_at_the_broken_files_only(mixed, tmp_path, capsys):
    bundle = make_tiny_bundle(tmp_path / "bundle")
    command = ["infer", str(bundle), str(mixed), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert run(command) == run(command) == exit_codes.SOME_FAILED
    assert "0 done, 2" in capsys.readouterr().out.splitlines()[-1]
