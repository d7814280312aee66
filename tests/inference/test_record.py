"""run.json survives kills, and recognises finished cases by hashes only."""

import json

import pytest

from medssl.core.files import sha256_file
from medssl.inference.record import RunRecord

HEADER = {"bundle": {"weights_sha256": "w"}, "settings": {"overlap": [0.5]}, "finished": None}


@pytest.fixture
def case(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"label map")
    return {
        "id": "a",
        "state": "done",
        "input_sha256": "i",
        "output": "a.nii.gz",
        "output_sha256": sha256_file(tmp_path / "a.nii.gz"),
    }


def _cases(folder):
    return json.loads((folder / "run.json").read_text())["cases"]


def test_a_closed_record_holds_everything(tmp_path, case):
    record = RunRecord(tmp_path, HEADER)
    record.add(case)
    record.close(finished="now")
    assert _cases(tmp_path) == [case]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.nii.gz", "run.json"]


def test_a_kill_after_any_case_loses_nothing(tmp_path, case):
    record = RunRecord(tmp_path, HEADER)
    for number in range(5):
        record.add(case | {"id": f"case {number}"})
    # never closed: the next run finds the journal
    again = RunRecord(tmp_path, HEADER)
    assert all(again.finished_case(f"case {number}", "i") for number in range(5))
    assert len(_cases(tmp_path)) == 5


def test_a_torn_journal_line_is_left_out(tmp_path, case):
    record = RunRecord(tmp_path, HEADER)
    record.save()
    record.add(case)
    journal = tmp_path / "run.cases.jsonl"
    journal.write_text(journal.read_text() + '{"id": "b", "sta')
    assert RunRecord(tmp_path, HEADER).finished_case("a", "i") == case


@pytest.mark.parametrize("content", ["", "{", "[]", '{"cases": 3}', '{"bundle": 1}'])
def test_a_foreign_or_broken_record_is_no_record(tmp_path, content):
    (tmp_path / "run.json").write_text(content)
    assert RunRecord(tmp_path, HEADER).finished_case("a", "i") is None


def test_only_an_unchanged_case_is_finished(tmp_path, case):
    first = RunRecord(tmp_path, HEADER)
    first.add(case)
    first.close()
    assert RunRecord(tmp_path, HEADER).finished_case("a", "i") == case
    assert RunRecord(tmp_path, HEADER).finished_case("a", "other input") is None
    assert RunRecord(tmp_path, HEADER).finished_case("b", "i") is None
    (tmp_path / "a.nii.gz").write_bytes(b"label ma")
    assert RunRecord(tmp_path, HEADER).finished_case("a", "i") is None
    (tmp_path / "a.nii.gz").unlink()
    assert RunRecord(tmp_path, HEADER).finished_case("a", "i") is None


@pytest.mark.parametrize("changed", [{"bundle": {"weights_sha256": "v"}}, {"settings": {"overlap": [0.25]}}])
def test_other_weights_or_settings_make_every_case_new(tmp_path, case, changed):
    first = RunRecord(tmp_path, HEADER)
    first.add(case)
    first.close()
    assert RunRecord(tmp_path, HEADER | changed).finished_case("a", "i") is None


@pytest.mark.parametrize("change", [{"output": "../a.nii.gz"}, {"more_outputs": {"/etc/passwd": "x"}}, {"id": 3}])
def test_an_entry_that_names_files_elsewhere_is_none_of_ours(tmp_path, case, change):
    (tmp_path / "run.json").write_text(json.dumps(HEADER | {"cases": [case | change]}))
    assert RunRecord(tmp_path, HEADER).finished_case("a", "i") is None
