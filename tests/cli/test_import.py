"""medssl import: the file it writes and its exit codes."""

import numpy as np
import pytest
from data.small_exams import write_exam
from faults.small_dataset import image, label, save

from medssl.cli.main import run
from medssl.data.manifest import load_manifest


@pytest.fixture
def folder(tmp_path):
    for seed, name in enumerate("ab"):
        save(tmp_path / "data" / "imagesTr" / f"{name}.nii.gz", image(seed))
        save(tmp_path / "data" / "labelsTr" / f"{name}.nii.gz", label())
    save(tmp_path / "data" / "imagesTs" / "t.nii.gz", image(5))
    return tmp_path / "data"


def test_a_manifest_beside_the_data_passes_the_check(folder, capsys):
    out = folder / "m.json"
    arguments = ["--labels", "1=x,2=y", "--modality", "MR", "--name", "n", "--use-test-as-unlabeled"]
    assert run(["import", str(folder), "--out", str(out), *arguments]) == 0
    assert "2 training, 1 unlabeled, 0 validation, 0 test" in capsys.readouterr().out
    assert run(["check", str(out)]) == 0
    assert load_manifest(out).training[0].image == ("imagesTr/a.nii.gz",)


def test_a_manifest_elsewhere_needs_the_data_root_and_repeats_it(folder, tmp_path, capsys):
    out = tmp_path / "elsewhere" / "m.json"
    assert run(["import", str(folder), "--out", str(out)]) == 1
    assert not out.exists()
    assert run(["import", str(folder), "--out", str(out), "--data-root", str(folder)]) == 0
    assert f"medssl check {out} --data-root {folder}" in capsys.readouterr().out
    assert run(["check", str(out), "--data-root", str(folder)]) == 0


def test_an_existing_manifest_is_replaced_only_by_force(folder, capsys):
    out = folder / "m.json"
    out.write_text("precious")
    assert run(["import", str(folder), "--out", str(out)]) == 1
    assert "--force" in capsys.readouterr().err
    assert out.read_text() == "precious"
    assert run(["import", str(folder), "--out", str(out), "--force"]) == 0
    assert len(load_manifest(out).training) == 2


def test_cases_left_out_exit_with_three(folder, capsys):
    save(folder / "imagesTr" / "a.nii.gz", np.zeros((4, 4, 4, 2), np.int16))
    assert run(["import", str(folder), "--out", str(folder / "m.json")]) == 3
    assert "error image-dimensions [a]" in capsys.readouterr().out


def test_a_table_is_imported(folder):
    (folder / "t.csv").write_text("id,image,label\n1,imagesTr/a.nii.gz,labelsTr/a.nii.gz")
    assert run(["import", str(folder / "t.csv"), "--format", "csv", "--out", str(folder / "m.json")]) == 0
    assert load_manifest(folder / "m.json").training[0].id == "1"


def test_force_does_not_replace_the_table_itself(folder):
    table = folder / "cases.csv"
    table.write_text("id,image\na,imagesTr/a.nii.gz\n")
    assert run(["import", str(table), "--out", str(table), "--force"]) == 1
    assert table.read_text().startswith("id,image")


def test_prostate_exams_are_imported_and_a_bad_one_is_listed(tmp_path, capsys):
    write_exam(tmp_path / "src" / "good")
    write_exam(tmp_path / "src" / "bad", adc_factor=1000)
    out = tmp_path / "prepared" / "manifest.json"
    code = run(["import", str(tmp_path / "src"), "--format", "bpmri", "--crop", "36,36,5", "--out", str(out)])
    assert code == 3
    assert "1,000 times too large" in capsys.readouterr().out
    assert (out.parent / "exams" / "good" / "label.nii.gz").is_file()


def test_where_every_exam_is_bad_each_is_listed_with_its_remedy(tmp_path, capsys):
    write_exam(tmp_path / "src" / "bad", adc_factor=1000)
    out = tmp_path / "prepared" / "manifest.json"
    assert run(["import", str(tmp_path / "src"), "--format", "bpmri", "--crop", "36,36,5", "--out", str(out)]) == 1
    shown = capsys.readouterr()
    assert "error adc-units [bad]" in shown.out
    assert "Divide the map by 1,000" in shown.out
    assert "error: no case could be imported: adc-units (1)." in shown.err
