"""medssl check: what it prints and its exit codes."""

import json

import pytest
from faults.small_dataset import image, manifest, save, write_case

from medssl.cli.main import run
from medssl.data.manifest import save_manifest


@pytest.fixture
def file(tmp_path):
    cases = [write_case(tmp_path, name, seed=seed) for seed, name in enumerate("ab")]
    save_manifest(tmp_path / "m.json", manifest(training=cases))
    return tmp_path / "m.json"


def test_a_sound_manifest_exits_with_zero(file, capsys):
    assert run(["check", str(file)]) == 0
    assert "2 cases checked: 0 errors in 0 cases, 0 warnings, 0 notes." in capsys.readouterr().out


def test_errors_exit_with_three_and_are_listed(file, capsys):
    save(file.parent / "a.nii.gz", image(0) * 0)
    assert run(["check", str(file), "--workers", "0"]) == 3
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("error image-constant [a] a.nii.gz: expected")
    assert lines[-1].startswith("2 cases checked: 1 errors in 1 cases")


def test_warnings_alone_exit_with_zero(file):
    save(file.parent / "b.nii.gz", image(0))
    assert run(["check", str(file)]) == 0


def test_json_holds_the_findings_and_says_what_was_checked(file, tmp_path):
    save(file.parent / "a.nii.gz", image(0) * 0)
    assert run(["check", str(file), "--json", str(tmp_path / "out.json")]) == 3
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["cases"] == 2
    assert report["manifest"]["file"] == "m.json"
    assert len(report["manifest"]["sha256"]) == 64
    assert report["medssl"]["command"] == "check"
    assert [item["code"] for item in report["findings"]] == ["image-constant"]


def test_json_on_standard_output_is_nothing_but_json(file, capsys):
    assert run(["check", str(file), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["cases"] == 2


def test_wrong_data_root_exits_with_two_and_names_the_option(file, tmp_path, capsys):
    (tmp_path / "elsewhere").mkdir()
    assert run(["check", str(file), "--data-root", str(tmp_path / "elsewhere")]) == 2
    assert "--data-root" in capsys.readouterr().err


def test_missing_labels_alone_are_no_wrong_data_root(file):
    for path in file.parent.glob("*_label.nii.gz"):
        path.unlink()
    assert run(["check", str(file)]) == 3


def test_a_manifest_without_cases_exits_with_two(tmp_path):
    save_manifest(tmp_path / "m.json", manifest())
    assert run(["check", str(tmp_path / "m.json")]) == 2


@pytest.mark.parametrize("content", [None, "{", '{"name": "x"}'])
def test_a_bad_manifest_exits_with_one(tmp_path, content):
    if content is not None:
        (tmp_path / "m.json").write_text(content)
    assert run(["check", str(tmp_path / "m.json")]) == 1


def test_data_root_that_is_no_folder_exits_with_one(file, tmp_path):
    assert run(["check", str(file), "--data-root", str(tmp_path / "nowhere")]) == 1


def test_on_a_terminal_findings_are_a_table_and_brackets_survive(file, capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    save(file.parent / "a [1].nii.gz", image(0) * 0)
    content = file.read_text().replace('"a.nii.gz"', '"a [1].nii.gz"')
    file.write_text(content)
    assert run(["check", str(file)]) == 3
    out = capsys.readouterr().out
    assert "remedy" in out
    assert "a [1].nii.gz" in out


def test_the_findings_do_not_replace_the_manifest(file):
    before = file.read_bytes()
    assert run(["check", str(file), "--json", str(file)]) == 1
    assert file.read_bytes() == before
