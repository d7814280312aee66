"""Exit codes and error texts of the command line as a whole."""

from __future__ import annotations

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
