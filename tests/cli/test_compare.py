import json
from pathlib import Path

import pytest
from evaluation.test_comparison import content

from medssl.cli.main import run


def write(folder: Path, values: list[float]) -> str:
    folder.mkdir()
    (folder / "metrics.json").write_text(json.dumps(content(values)), encoding="utf-8")
    return str(folder)


def test_compare_prints_the_paired_difference_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write(tmp_path / "a", [0.5, 0.7, 0.9]), write(tmp_path / "b", [0.4, 0.6, 0.8])
    assert run(["compare", a, b, "--out", str(tmp_path / "c.json")]) == 0
    assert "A better" in capsys.readouterr().out
    assert json.loads((tmp_path / "c.json").read_text())["differences"][0]["decided"]


def test_cases_that_one_side_lacks_give_exit_code_3(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = write(tmp_path / "a", [0.5, 0.7]), write(tmp_path / "b", [0.4])
    assert run(["compare", a, b]) == 3
    assert "c1" in capsys.readouterr().out


def test_missing_evaluation_is_an_error_of_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["compare", str(tmp_path / "x"), str(tmp_path / "y")]) == 1
    assert "medssl evaluate" in capsys.readouterr().err


def test_a_comparison_does_not_replace_what_it_compares(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", [0.5]), write(tmp_path / "b", [0.4])
    before = (tmp_path / "a" / "metrics.json").read_bytes()
    assert run(["compare", a, b, "--out", str(tmp_path / "a" / "metrics.json")]) == 1
    assert (tmp_path / "a" / "metrics.json").read_bytes() == before
