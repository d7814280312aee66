"""medssl reduce: what it writes, its exit codes, and the way back."""

import json

import numpy as np
import pytest
from PIL import Image
from small_scans import ct, scan, write

from medssl.cli.main import run
from medssl.data.manifest import load_manifest, save_manifest
from medssl.reduction.audit import kept_slices, read_audit


@pytest.fixture
def file(tmp_path):
    cases = [write(tmp_path, name, scan(seed)) for name, seed in (("a", 1), ("b", 2), ("copy", 1))]
    save_manifest(tmp_path / "m.json", ct(unlabeled=cases, test=[write(tmp_path, "t", scan(2))]))
    return tmp_path / "m.json"


def reduce(file, *arguments, out="r.json"):
    code = run(["reduce", str(file), "--out", str(file.parent / out), "--workers", "0", *map(str, arguments)])
    return code, load_manifest(file.parent / out) if (file.parent / out).exists() else None


def test_reducing_and_restoring(file, capsys):
    code, reduced = reduce(file, "--scope", "dataset")
    assert code == 0
    assert [case.id for case in reduced.unlabeled] == ["a", "b"]
    assert "of 36 items kept" in capsys.readouterr().out
    assert reduce(file.parent / "r.json", "--restore", out="back.json")[1] == load_manifest(file)


def test_reducing_twice_writes_the_same_manifest_but_for_the_name_of_the_audit(file):
    reduce(file)
    reduce(file.parent / "r.json", out="rr.json")
    assert (file.parent / "r.reduction.jsonl").read_bytes() == (file.parent / "rr.reduction.jsonl").read_bytes()


def test_a_control_of_the_same_budget(file):
    _, hashed = reduce(file)
    _, control = reduce(file, "--method", "every_n", "--budget-like", file.parent / "r.json", out="e.json")
    counts = [
        {case: len(kept) for case, kept in kept_slices(read_audit(m, file.parent)).items()} for m in (hashed, control)
    ]
    assert counts[0] == counts[1]


def test_undo(file):
    reduce(file, "--scope", "dataset")
    (file.parent / "undo.jsonl").write_text('{"case": "copy", "slice": 3, "reason": "lesion"}\n')
    _, undone = reduce(file.parent / "r.json", "--undo", file.parent / "undo.jsonl", out="u.json")
    assert kept_slices(read_audit(undone, file.parent))["copy"] == [3]


def test_a_folder_of_images_is_one_scope(tmp_path, capsys):
    (tmp_path / "images").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30), dtype=np.uint8)
    for name in ("1", "2"):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
    code = run(["reduce", str(tmp_path / "images"), "--out", str(tmp_path / "r.json"), "--workers", "0"])
    assert code == 0
    assert [case.id for case in load_manifest(tmp_path / "r.json").unlabeled] == ["1.png"]
    assert "--data-root" in capsys.readouterr().out


def test_a_broken_case_is_listed_and_the_rest_done(file):
    (file.parent / "b.nii.gz").write_bytes(b"broken")
    code, reduced = reduce(file)
    assert code == 3
    assert [case.id for case in reduced.unlabeled] == ["a", "copy"]


def test_nothing_readable_exits_with_two_and_writes_nothing(file):
    for name in ("a", "b", "copy"):
        (file.parent / f"{name}.nii.gz").unlink()
    assert reduce(file) == (2, None)


def test_leaks_are_listed_and_taken_out(file, capsys):
    listed = file.parent / "leaks.json"
    assert run(["reduce", str(file), "--leaks", "--json", str(listed), "--workers", "0"]) == 3
    assert "leak-same-file" in capsys.readouterr().out
    assert [pair["trained"] for pair in json.loads(listed.read_text())["pairs"] if pair["same_scan"]] == ["b"]
    assert [case.id for case in reduce(file, "--leaks", out="clean.json")[1].unlabeled] == ["a", "copy"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--threshold", "99"],
        ["--scope", "hospital"],
        ["--window", "400,-1000"],
        ["--window", "lung"],
        ["--method", "embedding"],
        ["--encoder", "resnet50=none.pt", "--method", "embedding"],
        ["--part", "test", "--part", "nothing"],
        ["--restore"],
        ["--undo", "none.jsonl"],
        ["--budget-like", "none.json"],
        ["--window=-5,inf"],
        ["--unit", "volumes"],
        ["--threshold", "nan"],
    ],
)
def test_what_cannot_be_done_exits_with_one_and_writes_nothing(file, arguments):
    assert reduce(file, *arguments) == (1, None)


def test_an_existing_manifest_is_kept(file):
    assert reduce(file, out="m.json")[0] == 1
    assert run(["reduce", str(file)]) == 1


def test_a_budget_of_other_data_is_refused(file):
    """A reduction of whole volumes, and one of another manifest, say nothing about slices of this one."""
    assert reduce(file, "--unit", "volume", out="volumes.json")[0] == 0
    like = ["--method", "every_n", "--budget-like"]
    assert reduce(file, *like, str(file.parent / "volumes.json"), out="c.json") == (1, None)
    other = load_manifest(file)
    save_manifest(file.parent / "fewer.json", other.model_copy(update={"unlabeled": other.unlabeled[:2]}))
    assert reduce(file.parent / "fewer.json", out="fewer_reduced.json")[0] == 0
    assert reduce(file, *like, str(file.parent / "fewer_reduced.json"), out="c.json") == (1, None)


def test_a_part_named_twice_counts_once(file):
    twice = reduce(file, "--part", "unlabeled", "--part", "unlabeled")[1]
    assert read_audit(twice, file.parent).counts()["items"] == 36


def test_leaks_of_a_reduced_manifest_are_listed_but_not_taken_out(file):
    reduce(file, out="r.json")
    assert run(["reduce", str(file.parent / "r.json"), "--leaks", "--workers", "0"]) == 3
    words = ["--leaks", "--out", str(file.parent / "clean.json"), "--workers", "0"]
    assert run(["reduce", str(file.parent / "r.json"), *words]) == 1
    assert not (file.parent / "clean.json").exists()


def test_leaks_with_nothing_to_compare_are_an_error_of_use(file, capsys):
    content = load_manifest(file)
    save_manifest(file.parent / "one.json", content.model_copy(update={"test": (), "validation": ()}))
    assert run(["reduce", str(file.parent / "one.json"), "--leaks"]) == 1
    assert "nothing to compare" in capsys.readouterr().err
