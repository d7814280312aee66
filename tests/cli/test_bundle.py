import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from medssl.cli.main import run

NAME = "hippocampus_mri_supervised"


def test_list_names_the_shipped_bundles(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundle", "list"]) == 0
    assert NAME in capsys.readouterr().out


def test_info_says_what_the_bundle_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundle", "info", NAME]) == 0
    shown = capsys.readouterr().out
    for part in ("1 anterior, 2 posterior", "MR", "1.0 x 1.0 x 1.0", "32 x 48 x 32", "CC BY-SA 4.0", "monai 1.6.1"):
        assert part in shown


def test_info_as_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundle", "info", NAME, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labels"]["1"] == "anterior"


def test_unknown_bundle_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundle", "info", "hippocampus_mri_supervise"]) == 1
    assert f'Did you mean "{NAME}"?' in capsys.readouterr().err


def test_folder_without_configs_is_no_bundle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundle", "info", str(tmp_path)]) == 1
    assert "without configs/" in capsys.readouterr().err


@pytest.mark.parametrize("verb", [["list"], ["info", NAME], ["--help"]])
def test_catalog_starts_without_torch(verb: list[str]) -> None:
    code = (
        "import sys; from medssl.cli.main import run; run(sys.argv[1:]); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'monai', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code, "bundle", *verb], capture_output=True).returncode == 0


def test_info_answers_at_once() -> None:
    code = f"from medssl.cli.main import run; run(['bundle', 'info', '{NAME}'])"
    started = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(started.pid, 0)
    assert status == 0
    # processor time of this one child, which other processes on the machine do not change
    assert usage.ru_utime + usage.ru_stime < 0.6


def test_verify_reports_every_finding_and_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "inference.json").write_text('{"device": "@nothing"}', encoding="utf-8")
    assert run(["bundle", "verify", str(tmp_path), "--quick"]) == 1
    shown = capsys.readouterr().out
    assert {"B01", "B05", "B08"} <= {line.split(" ")[0] for line in shown.splitlines()}
    assert "did not pass" in shown


def test_verify_as_json_names_the_checks_that_ran(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "configs").mkdir()
    assert run(["bundle", "verify", str(tmp_path), "--quick", "--json"]) == 1
    result = json.loads(capsys.readouterr().out)
    assert not result["passed"]
    assert [check["code"] for check in result["checks"]][-1] == "B13"


def test_quick_and_full_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bundle", "verify", NAME, "--quick", "--full"]) == 1
    assert "exclude each other" in capsys.readouterr().err
