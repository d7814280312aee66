"""medssl report on the command line."""

from __future__ import annotations

import json

from phantoms import write_phantoms

from medssl.cli.main import run
from medssl.core import exit_codes


def test_report_is_written(tmp_path, capsys):
    (tmp_path / "check.json").write_text(json.dumps({"cases": 1, "findings": []}))
    out = tmp_path / "r.html"
    assert run(["report", str(tmp_path / "check.json"), "--out", str(out), "--title", "Ours"]) == exit_codes.OK
    assert "<title>Ours</title>" in out.read_text()
    assert "r.html" in capsys.readouterr().out


def test_what_cannot_be_shown_is_told(tmp_path, capsys):
    case = {"id": "a", "state": "done", "output": "a.nii.gz"}
    (tmp_path / "run.json").write_text(json.dumps({"cases": [case]}))
    assert run(["report", str(tmp_path), "--out", str(tmp_path / "r.html")]) == exit_codes.OK
    assert "not shown: case a: no manifest" in capsys.readouterr().err


def test_broken_source_is_a_usage_error(tmp_path, capsys):
    (tmp_path / "run.json").write_text("{")
    assert run(["report", str(tmp_path), "--out", str(tmp_path / "r.html")]) == exit_codes.USAGE
    assert "run.json: expected JSON" in capsys.readouterr().err
    assert not (tmp_path / "r.html").exists()


def test_asked_viewer_pages_are_written_or_said(tmp_path, capsys):
    data = tmp_path / "data"
    manifest = write_phantoms(data, training=2, validation=0)
    cases = [
        {"id": f"phantom_{number}", "state": "done", "output": f"phantom_{number}_label.nii.gz"} for number in (0, 1)
    ]
    (data / "run.json").write_text(json.dumps({"cases": cases}))
    sources = [str(data), str(manifest), "--out", str(tmp_path / "r.html")]
    assert run(["report", *sources, "--viewer", "phantom_1", "--viewer", "nobody"]) == exit_codes.OK
    assert [path.name for path in (tmp_path / "r_viewer").iterdir()] == ["phantom_1.html"]
    assert "not shown: case nobody" in capsys.readouterr().err
    assert run(["report", *sources, "--viewers"]) == exit_codes.OK
    assert (tmp_path / "r_viewer" / "phantom_0.html").is_file()
