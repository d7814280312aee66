"""Exams are found by the names of their files, in folders of their own and as PI-CAI names them."""

import pytest

from medssl.data.exam_files import find_exams


def _touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def _found(root):
    exams, _ = find_exams(root)
    return {exam.id: {role: [path.name for path in paths] for role, paths in exam.files.items()} for exam in exams}


def test_a_folder_for_each_exam(tmp_path):
    _touch(
        tmp_path, "b/t2w.mha", "b/adc.mha", "b/hbv.mha", "b/cspca_isup.nii.gz", "b/whole_gland_ai.nii.gz", "a/t2.nii"
    )
    assert list(_found(tmp_path)) == ["a", "b"]
    assert _found(tmp_path)["b"] == {
        "t2w": ["t2w.mha"],
        "adc": ["adc.mha"],
        "hbv": ["hbv.mha"],
        "label": ["cspca_isup.nii.gz"],
        "gland": ["whole_gland_ai.nii.gz"],
    }


def test_the_names_of_pi_cai_with_labels_in_a_folder_apart(tmp_path):
    start = "images/10000/10000_1000000"
    _touch(tmp_path, f"{start}_t2w.mha", f"{start}_adc.mha", f"{start}_hbv.mha", f"{start}_sag.mha", f"{start}_cor.mha")
    _touch(tmp_path, "labels/10000_1000000.nii.gz", "labels/10001_1000001.nii.gz")
    exams, findings = find_exams(tmp_path)
    assert [(exam.id, exam.patient) for exam in exams] == [("10000_1000000", "10000")]
    assert exams[0].one("label").name == "10000_1000000.nii.gz"
    assert [finding.code for finding in findings] == ["file-other"]  # the label of an exam that is not there


def test_the_folder_above_is_the_patient(tmp_path):
    _touch(tmp_path, "p1/first/t2w.mha", "p1/second/t2w.mha", "p2/first/t2w.mha")
    exams, _ = find_exams(tmp_path)
    assert [(exam.id, exam.patient) for exam in exams] == [
        ("p1__first", "p1"),
        ("p1__second", "p1"),
        ("p2__first", "p2"),
    ]


def test_a_site_above_the_patients_is_part_of_their_names(tmp_path):
    _touch(tmp_path, "site/p1/first/t2w.mha", "site/p2/first/t2w.mha")
    assert [exam.patient for exam in find_exams(tmp_path)[0]] == ["site__p1", "site__p2"]


def test_links_to_folders_are_followed_once(tmp_path):
    _touch(tmp_path / "elsewhere", "t2w.mha")
    _touch(tmp_path / "src", "b/t2w.mha")
    (tmp_path / "src" / "a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "src" / "b" / "loop").symlink_to(tmp_path / "src")
    assert [exam.id for exam in find_exams(tmp_path / "src")[0]] == ["a", "b"]


def test_sequences_of_one_name_in_several_folders_are_an_exam_of_each(tmp_path):
    names = [f"{patient}/scan_{role}.mha" for patient in ("p1", "p2") for role in ("t2w", "adc", "hbv", "lesion")]
    _touch(tmp_path, *names)
    exams, findings = find_exams(tmp_path)
    assert findings == []
    assert [(exam.id, exam.patient) for exam in exams] == [("p1__scan", "p1"), ("p2__scan", "p2")]
    assert all(
        {path.parent.name for path in paths} == {exam.patient} for exam in exams for paths in exam.files.values()
    )
    assert all(exam.files.keys() == {"t2w", "adc", "hbv", "label"} for exam in exams)


def test_a_label_may_lie_apart_where_one_folder_holds_the_sequences(tmp_path):
    _touch(tmp_path, "images/scan_t2w.mha", "images/scan_adc.mha", "images/scan_hbv.mha", "labels/scan_lesion.mha")
    (exam,), _ = find_exams(tmp_path)
    assert (exam.id, len(exam.files)) == ("scan", 4)


def test_a_folder_for_each_sequence_is_one_exam(tmp_path):
    _touch(tmp_path, "t2w/case1_t2w.mha", "adc/case1_adc.mha", "hbv/case1_hbv.mha", "labels/case1_lesion.mha")
    (exam,), _ = find_exams(tmp_path)
    assert (exam.id, exam.patient, len(exam.files)) == ("case1", None, 4)


def test_visits_of_one_patient_keep_the_patient_and_the_nearest_label(tmp_path):
    for visit in ("v1", "v2"):
        _touch(tmp_path, *(f"p1/{visit}/scan_{role}.mha" for role in ("t2w", "adc", "hbv")))
        _touch(tmp_path, f"p1/{visit}/labels/scan_lesion.mha")
    exams, _ = find_exams(tmp_path)
    assert [(exam.id, exam.patient) for exam in exams] == [("p1__v1__scan", "p1"), ("p1__v2__scan", "p1")]
    assert all(exam.files["label"][0].parent.parent == exam.files["t2w"][0].parent for exam in exams)


def test_sequences_of_two_patients_are_never_one_exam(tmp_path):
    _touch(tmp_path, "p1/mri_t2w.mha", "p2/mri_adc.mha", "p2/mri_hbv.mha")
    assert [exam.id for exam in find_exams(tmp_path)[0]] == ["p1__mri", "p2__mri"]


def test_a_link_never_names_a_folder_that_has_a_path_of_its_own(tmp_path):
    _touch(tmp_path, "p1/e1/t2w.mha")
    for name in ("aa", "zz"):
        (tmp_path / name).symlink_to(tmp_path / "p1" / "e1")
    assert [(exam.id, exam.patient) for exam in find_exams(tmp_path)[0]] == [("p1__e1", "p1")]


def test_hidden_files_and_folders_are_passed_over(tmp_path):
    _touch(tmp_path, "a/t2w.mha", "a/.t2w.mha", ".snapshot/a/t2w.mha", "b/.old/t2w.mha")
    exams, findings = find_exams(tmp_path)
    assert [exam.id for exam in exams] == ["a"]
    assert findings == []


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("T2W", "t2w"),
        ("x_t2_tse_tra", "t2w"),
        ("ADC_map", "adc"),
        ("x-DWI", "hbv"),
        ("x_high_b", "hbv"),
        ("b1400", "hbv"),
        ("x_prostate", "gland"),
        ("x_gland_mask", "gland"),
        ("x_lesion", "label"),
    ],
)
def test_usual_names_are_known(tmp_path, name, role):
    _touch(tmp_path, f"x/{name}.nii.gz", "x/x_t2w.mha")
    exam = "x"
    assert f"{name}.nii.gz" in _found(tmp_path)[exam][role]


def test_what_is_no_image_or_names_no_sequence_is_passed_over(tmp_path):
    _touch(tmp_path, "a/t2w.mha", "a/notes.txt", "a/._t2w.mha", "a/localizer.nii.gz")
    assert _found(tmp_path) == {"a": {"t2w": ["t2w.mha"]}}
    assert "localizer" in find_exams(tmp_path)[1][0].text


def test_what_looks_like_an_exam_without_sequences_does_not_vanish(tmp_path):
    _touch(tmp_path, "good/t2w.mha", "alone/lesion.nii.gz", "vendor/t2_blade.mha", "vendor/trace.mha")
    _touch(tmp_path, "mixed/isup.mha", "mixed/t2_blade.mha", "p1/first/gland.mha")
    assert _found(tmp_path) == {
        "alone": {"label": ["lesion.nii.gz"]},
        "good": {"t2w": ["t2w.mha"]},
        "mixed": {"label": ["isup.mha"], "other": ["t2_blade.mha"]},
        "p1__first": {"gland": ["gland.mha"]},
        "vendor": {"other": ["t2_blade.mha", "trace.mha"]},
    }
    assert find_exams(tmp_path)[1] == []


def test_one_image_of_unknown_name_is_passed_over_with_its_folder(tmp_path):
    _touch(tmp_path, "good/t2w.mha", "stray/scan.mha")
    assert list(_found(tmp_path)) == ["good"]
    assert (
        "1 images name no sequence of an exam and were passed over (stray/scan.mha)" in find_exams(tmp_path)[1][0].text
    )
