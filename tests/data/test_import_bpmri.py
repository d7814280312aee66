"""A folder of exams becomes a manifest of three-channel cases; a bad exam never ends the import."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from data.small_exams import write_exam

from medssl.core.errors import ConfigError
from medssl.core.files import sole_writer
from medssl.data.checks import check_manifest
from medssl.data.exam_import import ExamOptions
from medssl.data.import_cases import ImportOptions, NothingImportedError
from medssl.data.importers import exam_options, import_data


def _options(root, **exams):
    return ImportOptions(root=root, exams=ExamOptions(**{"crop": (36, 36, 5)} | exams))


def test_exams_become_training_and_unlabelled_cases_of_three_channels(tmp_path):
    write_exam(tmp_path / "src", names="10001_1_{}")
    write_exam(tmp_path / "src", names="10002_2_{}", grade=0)
    write_exam(tmp_path / "src", names="10003_3_{}", label=False)
    imported = import_data(tmp_path / "src", _options(tmp_path), layout="bpmri")
    manifest = imported.manifest
    assert imported.findings == []
    assert [(case.id, case.patient, case.class_) for case in manifest.training] == [
        ("10001_1", "10001", 1),
        ("10002_2", "10002", 0),
    ]
    assert [case.id for case in manifest.unlabeled] == ["10003_3"]
    assert manifest.channels() == 3


def test_a_bad_exam_does_not_end_the_import(tmp_path):
    write_exam(tmp_path / "src" / "bad", adc_factor=10)
    write_exam(tmp_path / "src" / "good")
    (tmp_path / "src" / "worse").mkdir()
    (tmp_path / "src" / "worse" / "t2w.mha").write_bytes(b"")
    imported = import_data(tmp_path / "src", _options(tmp_path), layout="bpmri")
    assert [case.id for case in imported.manifest.training] == ["good"]
    assert [(finding.case, finding.code) for finding in imported.findings] == [
        ("bad", "adc-units"),
        ("worse", "sequence-missing"),
    ]


def test_exams_whose_names_say_no_sequence_are_errors_that_name_them(tmp_path):
    write_exam(tmp_path / "src" / "good")
    vendor = write_exam(tmp_path / "src" / "vendor")
    for name, theirs in (("t2w.mha", "t2_blade.mha"), ("adc.mha", "apparent.mha"), ("hbv.nii.gz", "trace.nii.gz")):
        (vendor / name).rename(vendor / theirs)
    (finding,) = import_data(tmp_path / "src", _options(tmp_path), layout="bpmri").findings
    assert (finding.case, finding.code, finding.severity) == ("vendor", "sequence-missing", "error")
    listed = "found none of them, only lesion.nii.gz, apparent.mha, t2_blade.mha, trace.nii.gz."
    assert listed in finding.text
    assert "Name the files after their sequences" in finding.fix


def test_where_every_exam_is_bad_the_findings_are_kept(tmp_path):
    write_exam(tmp_path / "src" / "a", adc_factor=10)
    (write_exam(tmp_path / "src" / "b") / "adc.mha").unlink()
    with pytest.raises(NothingImportedError, match=r"adc-units \(1\), sequence-missing \(1\)") as error:
        import_data(tmp_path / "src", _options(tmp_path), layout="bpmri")
    assert [finding.case for finding in error.value.findings] == ["a", "b"]


def test_the_manifest_passes_its_own_check(tmp_path):
    write_exam(tmp_path / "src" / "a")
    write_exam(tmp_path / "src" / "b", grade=0, seed=1)
    manifest = import_data(tmp_path / "src", _options(tmp_path), layout="bpmri").manifest
    assert [finding.code for finding in check_manifest(manifest, root=tmp_path) if finding.severity != "info"] == []


def test_grades_of_one_only_are_asked_about(tmp_path):
    write_exam(tmp_path / "src" / "a", grade=1)
    imported = import_data(tmp_path / "src", _options(tmp_path), layout="bpmri")
    assert [finding.code for finding in imported.findings] == ["label-grades"]
    binary = _options(tmp_path / "again", label_values="binary")
    assert import_data(tmp_path / "src", binary, layout="bpmri").findings == []


def test_what_a_fixed_adc_needs_of_the_bundle_is_said(tmp_path):
    write_exam(tmp_path / "src" / "a")
    (finding,) = import_data(tmp_path / "src", _options(tmp_path, adc_scaling="fixed"), layout="bpmri").findings
    assert (finding.code, finding.severity) == ("adc-fixed", "info")
    assert "--set intensity_mean=[null,0,null] --set intensity_deviation=[null,1,null]" in finding.fix


def test_where_there_is_no_exam_the_names_are_explained(tmp_path):
    (tmp_path / "src").mkdir()
    with pytest.raises(ConfigError, match="expected exams of t2w, adc and hbv"):
        import_data(tmp_path / "src", _options(tmp_path), layout="bpmri")


def test_results_do_not_go_among_the_sources(tmp_path):
    write_exam(tmp_path / "exams" / "a")
    for source in (tmp_path / "exams", tmp_path, tmp_path / "exams" / "a"):
        with pytest.raises(ConfigError, match="Choose an --out in another folder"):
            import_data(source, _options(tmp_path), layout="bpmri")


def test_a_name_that_cannot_be_an_id_is_an_error_of_its_exam_only(tmp_path):
    write_exam(tmp_path / "src" / "good")
    write_exam(tmp_path / "src" / "back\\slash")
    write_exam(tmp_path / "src" / ("a" * 150) / ("b" * 150))
    imported = import_data(tmp_path / "src", _options(tmp_path), layout="bpmri")
    assert [case.id for case in imported.manifest.training] == ["good"]
    assert [(finding.code, finding.severity) for finding in imported.findings] == [("exam-name", "error")] * 2
    assert sorted(path.name for path in (tmp_path / "exams").iterdir()) == ["good"]


def test_one_folder_above_all_exams_is_asked_about(tmp_path):
    for number in range(3):
        write_exam(tmp_path / "src" / "site" / f"exam{number}")
    imported = import_data(tmp_path / "src", _options(tmp_path), layout="bpmri")
    assert [finding.code for finding in imported.findings] == ["patient-one"]
    below = import_data(tmp_path / "src" / "site", _options(tmp_path / "again"), layout="bpmri")
    assert [finding.code for finding in below.findings] == ["patient-unknown"]
    assert len({case.group for case in below.manifest.training}) == 3


def test_exams_of_another_import_are_never_replaced_unasked(tmp_path):
    write_exam(tmp_path / "one" / "a")
    write_exam(tmp_path / "two" / "a", grade=0, seed=1)
    import_data(tmp_path / "one", _options(tmp_path), layout="bpmri")
    before = {path: path.read_bytes() for path in (tmp_path / "exams" / "a").iterdir()}
    with pytest.raises(NothingImportedError) as caught:
        import_data(tmp_path / "two", _options(tmp_path), layout="bpmri")
    assert [finding.code for finding in caught.value.findings] == ["exam-exists"]
    assert {path: path.read_bytes() for path in (tmp_path / "exams" / "a").iterdir()} == before
    options = replace(_options(tmp_path), replace=True)
    assert import_data(tmp_path / "two", options, layout="bpmri").manifest.training[0].class_ == 0


def test_what_a_killed_import_left_is_swept(tmp_path):
    write_exam(tmp_path / "src" / "a")
    import_data(tmp_path / "src", _options(tmp_path), layout="bpmri")
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    left = tmp_path / "exams" / "a" / f".tmp-{int(ended.stdout)}-x-t2w.nii.gz"
    left.write_bytes(b"half")
    import_data(tmp_path / "src", _options(tmp_path), layout="bpmri")
    assert not left.exists()


def test_two_imports_do_not_write_to_one_place(tmp_path, monkeypatch):
    write_exam(tmp_path / "src" / "a")
    monkeypatch.setattr("medssl.data.import_bpmri.sole_writer", partial(sole_writer, patience=0.0))
    with sole_writer(tmp_path / "exams"), pytest.raises(ConfigError, match="another process is writing"):
        import_data(tmp_path / "src", _options(tmp_path), layout="bpmri")


def test_options_are_read_as_the_user_writes_them():
    options = exam_options(crop="128, 128,24", adc_scaling="fixed", label_values="binary")
    assert (options.crop, options.adc_scaling, options.label_values) == ((128, 128, 24), "fixed", "binary")
    for wrong in (
        {"crop": "9999,9999,9999"},
        {"crop": "128,128"},
        {"crop": "a,b,c"},
        {"adc_scaling": "fix"},
        {"label_values": "gleason"},
    ):
        with pytest.raises(ConfigError, match="expected"):
            exam_options(**{"crop": None, "adc_scaling": "zscore", "label_values": "isup"} | wrong)


@pytest.mark.shared
def test_real_exams_keep_their_voxels_and_their_lesion(shared_data, tmp_path):
    imported = import_data(shared_data / "bpmri", ImportOptions(root=tmp_path), layout="bpmri")
    assert [(case.id, case.class_) for case in imported.manifest.training] == [
        ("ProstateX-0000", 1),
        ("ProstateX-0001", 0),
    ]
    import nibabel as nib

    label = nib.load(tmp_path / imported.manifest.training[0].label)
    assert label.shape == (256, 256, 20)
    assert np.count_nonzero(label.get_fdata()) == 414
    assert json.loads((tmp_path / "exams/ProstateX-0000/exam.json").read_text())["label_values"] == [0, 3]
