"""medssl demo: the order of the commands, where it stops, and what it ends with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from medssl.cli import main
from medssl.cli.demo import commands, network_dice
from medssl.core import exit_codes

RUN = main.run


class _Commands:
    """Stand in for the commands: record them, write the metrics, fail at one on demand."""

    def __init__(self, *, fail_at: str | None = None) -> None:
        self.calls: list[list[str]] = []
        self.fail_at = fail_at

    def __call__(self, arguments: list[str]) -> int:
        self.calls.append(arguments)
        if arguments[0] == "evaluate":
            folder = Path(arguments[arguments.index("--out") + 1])
            folder.mkdir(parents=True)
            dice = {"grey matter": {"dice": {"mean": 0.91}}, "white matter": {"dice": {"mean": 0.9254}}}
            (folder / "metrics.json").write_text(json.dumps({"summary": {**dice, "mean": {"dice": {"mean": 0.9}}}}))
        return exit_codes.SOME_FAILED if arguments[0] == self.fail_at else exit_codes.OK


def _demo(monkeypatch: pytest.MonkeyPatch, out: Path, stand_in: _Commands) -> int:
    monkeypatch.setattr(main, "run", stand_in)
    return RUN(["demo", "--out", str(out)])


def test_commands_run_in_order_and_are_shown_before(tmp_path, monkeypatch, capsys):
    stand_in = _Commands()
    assert _demo(monkeypatch, tmp_path, stand_in) == exit_codes.OK
    verbs = ["check", "finetune", "infer", "evaluate", "report"]
    assert [call[0] for call in stand_in.calls] == verbs
    shown = [line.split()[2] for line in capsys.readouterr().out.splitlines() if line.startswith("$ medssl")]
    assert shown == verbs


def test_both_scores_and_the_report_stand_at_the_end(tmp_path, monkeypatch, capsys):
    _demo(monkeypatch, tmp_path, _Commands())
    lines = capsys.readouterr().out.splitlines()
    assert lines[-5].split() == ["network", "two", "thresholds"]
    assert lines[-4].split() == ["grey", "matter", "0.910", "0.965"]
    assert lines[-3].split() == ["white", "matter", "0.925", "0.948"]
    assert lines[-1].endswith(str(tmp_path / "report.html"))


def test_a_failing_command_stops_the_demo_with_its_code(tmp_path, monkeypatch, capsys):
    stand_in = _Commands(fail_at="infer")
    assert _demo(monkeypatch, tmp_path, stand_in) == exit_codes.SOME_FAILED
    assert [call[0] for call in stand_in.calls] == ["check", "finetune", "infer"]
    assert "medssl infer ended with exit code 3" in capsys.readouterr().err


def test_every_command_and_option_of_the_demo_exists(tmp_path, capsys):
    for arguments in commands(tmp_path, epochs=2):
        assert RUN([arguments[0], "--help"]) == exit_codes.OK
        help_text = capsys.readouterr().out
        assert all(word in help_text for word in arguments if word.startswith("--"))


def test_the_test_blocks_are_scored_and_the_whole_template_is_not(tmp_path):
    by_verb = {arguments[0]: " ".join(arguments) for arguments in commands(tmp_path, epochs=2)}
    assert "whole.json" in by_verb["infer"] and "--part test" in by_verb["infer"]
    assert "whole.json" not in by_verb["evaluate"] and "whole.json" not in by_verb["finetune"]


def test_mean_over_tissues_is_no_tissue(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text(json.dumps({"summary": {"a": {"dice": {"mean": 0.5}}, "mean": {"dice": {"mean": 0.5}}}}))
    assert network_dice(path) == {"a": 0.5}


@pytest.mark.slow
def test_the_real_demo_reaches_its_dice(tmp_path):
    assert RUN(["demo", "--out", str(tmp_path)]) == exit_codes.OK
    assert min(network_dice(tmp_path / "metrics" / "metrics.json").values()) >= 0.90
    assert (tmp_path / "report.html").stat().st_size > 100_000
