"""Exit codes and error texts of the command line as a whole."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from medssl.cli.main import run
from medssl.core import exit_codes


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["check"], ["infer", "--no-such-option"], ["split", "a", "b", "c"]]
)
def test_usage_errors_end_with_code_1_and_a_hint(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    assert run(arguments) == exit_codes.USAGE
    assert "Error" in capsys.readouterr().err


def test_an_error_of_ours_is_shown_without_a_traceback(capsys: pytest.CaptureFixture) -> None:
    assert run(["check", "no_such_manifest.json"]) == exit_codes.USAGE
    shown = capsys.readouterr().err
    assert shown.startswith("error: no_such_manifest.json: no such manifest.")
    assert "Traceback" not in shown


def test_versions_are_printed(capsys: pytest.CaptureFixture) -> None:
    assert run(["version"]) == exit_codes.OK
    assert "monai " in capsys.readouterr().out


def test_an_unknown_bundle_is_named_with_the_nearest_one(capsys: pytest.CaptureFixture) -> None:
    assert run(["bundle", "info", "hippocampus_mri_supervized"]) == exit_codes.USAGE
    assert "hippocampus_mri_supervised" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["folder", "file/below.json", "no_writing/x.json"])
def test_a_path_that_cannot_be_written_is_named_without_a_traceback(
    out: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    case = {"image": "a.nii", "label": "l.nii"}
    content = {"name": "n", "modality": "MR", "labels": {"0": "b", "1": "o"}}
    content |= {"training": [{**case, "id": "a"}, {**case, "id": "b"}]}
    (tmp_path / "m.json").write_text(json.dumps(content))
    real = Path.mkdir

    def mkdir(path: Path, *arguments: Any, **options: Any) -> None:  # root may write anywhere
        if path.name == "no_writing":
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        real(path, *arguments, **options)

    monkeypatch.setattr(Path, "mkdir", mkdir)
    command = ["split", str(tmp_path / "m.json"), "--out", str(tmp_path / out), "--folds", "2", "--force"]
    assert run(command) == exit_codes.USAGE
    shown = capsys.readouterr().err
    assert shown.startswith("error: medssl split: expected a path that can be used")
    assert out.split("/")[0] in shown
