"""medssl split: the file it writes, and what it refuses."""

import pytest
from faults.small_dataset import manifest

from medssl.cli.main import run
from medssl.data.manifest import load_manifest, save_manifest


@pytest.fixture
def file(tmp_path):
    cases = [
        {"id": f"c{index}", "image": f"c{index}.nii.gz", "label": "l.nii.gz", "patient": f"p{index // 2}"}
        for index in range(40)
    ]
    save_manifest(tmp_path / "m.json", manifest(training=cases))
    return tmp_path / "m.json"


def split(file, *arguments, out="out.json"):
    code = run(["split", str(file), "--out", str(file.parent / out), *arguments])
    return code, load_manifest(file.parent / out) if code == 0 else None


def test_all_at_once(file, capsys):
    code, content = split(file, "--test", "20%", "--validation", "4", "--labeled", "10", "--folds", "5", "--seed", "3")
    assert code == 0
    assert [len(content.part(part)) for part in ("training", "unlabeled", "validation", "test")] == [10, 18, 4, 8]
    assert {case.fold for case in content.training} == set(range(5))
    out = capsys.readouterr().out
    assert "test: 8 cases of 4 patients" in out
    assert "folds: 0: 2, 1: 2" in out
    assert "note" not in out


def test_the_same_seed_gives_the_same_file(file):
    for out in ("one.json", "two.json"):
        split(file, "--labeled", "4", "--seed", "7", out=out)
    assert (file.parent / "one.json").read_bytes() == (file.parent / "two.json").read_bytes()


def test_a_given_draw(file):
    _, content = split(file, "--labeled-cases", "c1, c2")
    assert [case.id for case in content.training] == ["c1", "c2"]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--folds", "21"],
        ["--labeled", "4", "--labeled-cases", "c1"],
        ["--labeled", "many"],
        ["--labeled-cases", "nobody"],
        ["--test", "100%"],
        ["--folds", "two"],
    ],
)
def test_what_cannot_be_done_exits_with_one_and_writes_nothing(file, arguments):
    assert split(file, *arguments)[0] == 1
    assert not (file.parent / "out.json").exists()


def test_an_existing_file_is_replaced_only_by_force(file):
    assert split(file, "--folds", "2")[0] == 0
    assert split(file, "--folds", "4")[0] == 1
    assert split(file, "--folds", "4", "--force")[1].training[0].fold is not None


def test_notes_on_missing_patients_and_on_another_folder(tmp_path, capsys):
    cases = [{"id": name, "image": f"{name}.nii.gz", "label": "l.nii.gz"} for name in "abc"]
    save_manifest(tmp_path / "m.json", manifest(training=cases))
    assert run(["split", str(tmp_path / "m.json"), "--out", str(tmp_path / "deep" / "o.json"), "--folds", "2"]) == 0
    out = capsys.readouterr().out
    assert "a patient of its own" in out
    assert "--data-root" in out
