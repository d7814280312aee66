"""A whole manifest: what cases have in common, order, and the death of a worker."""

import time

import nibabel as nib
import numpy as np
import pytest
from faults.broken_files import make_broken_files
from faults.small_dataset import image, manifest, save, write_case
from faults.worker_functions import examine_or_die

from medssl.data import checks
from medssl.data.checks import check_manifest
from medssl.data.manifest import Manifest


def found(parts, root, **options):
    return [(item.code, item.severity, item.case) for item in check_manifest(manifest(**parts), root, **options)]


@pytest.fixture
def three(tmp_path):
    return [write_case(tmp_path, name, seed=seed) for seed, name in enumerate("abc")]


def test_a_sound_data_set_has_no_findings(tmp_path, three):
    assert found({"training": three}, tmp_path) == []


@pytest.mark.parametrize(
    ("first", "second", "leaks"),
    [
        ("training", "training", False),
        ("training", "validation", True),
        ("unlabeled", "test", True),
        ("validation", "test", True),
        ("test", "test", False),
    ],
)
def test_a_patient_in_two_parts_and_a_duplicate_leak_alike(tmp_path, three, first, second, leaks):
    save(tmp_path / "b.nii.gz", image(0))
    a, b = three[0] | {"patient": "Jane Doe"}, three[1] | {"patient": "Jane Doe"}
    parts = {first: [a], second: [b]} if first != second else {first: [a, b]}
    result = [item for item in found(parts, tmp_path) if item[0] != "label-ignored"]
    expected = [("duplicate", "error" if leaks else "warning", "b")]
    assert result == expected + ([("patient-split", "error", "b")] if leaks else [])


def test_a_labelled_case_in_the_unlabelled_list_is_an_error_and_another_scan_of_its_patient_is_none(tmp_path, three):
    save(tmp_path / "b.nii.gz", image(0))
    a, b, c = (case | {"patient": "Jane Doe"} for case in three)
    result = [item for item in found({"training": [a], "unlabeled": [b, c]}, tmp_path) if item[0] != "label-ignored"]
    assert result == [("duplicate", "error", "b")]


@pytest.mark.parametrize(
    ("draws", "severity"),
    [([["a"]], "error"), ([["a", "b"], ["b", "c"]], "error"), ([["a", "b"], ["c"]], "warning"), ([], "warning")],
)
def test_a_duplicate_is_an_error_where_a_draw_labels_one_of_the_two_only(tmp_path, three, draws, severity):
    save(tmp_path / "b.nii.gz", image(0))
    assert found({"training": three}, tmp_path, draws=draws) == [("duplicate", severity, "b")]


def test_of_three_equal_cases_the_one_that_a_draw_leaves_out_is_named_with_the_draw(tmp_path, three):
    for name in "bc":
        save(tmp_path / f"{name}.nii.gz", image(0)[::-1])
    kept, parted = check_manifest(manifest(training=three), tmp_path, draws=[["a", "b"]])
    assert (kept.code, kept.severity) == ("duplicate-mirrored", "warning")
    assert (parted.code, parted.severity, parted.case) == ("duplicate-mirrored", "error", "c")
    assert "case a (training). The draw a, b labels one of them" in parted.text


def test_no_finding_names_the_patient(tmp_path, three):
    parts = {"training": [three[0] | {"patient": "Jane Doe"}], "test": [three[1] | {"patient": "Jane Doe"}]}
    (finding,) = check_manifest(manifest(**parts), tmp_path)
    assert "Jane" not in finding.text + finding.fix
    assert "case a (training)" in finding.text


def test_a_patient_in_two_folds_leaks(tmp_path, three):
    cases = [case | {"patient": "p", "fold": fold} for case, fold in zip(three, (0, 0, 1), strict=True)]
    assert found({"training": cases}, tmp_path) == [("patient-split", "error", "c")]


def test_mirrored_duplicate_of_another_type_is_found(tmp_path, three):
    save(tmp_path / "c.nii.gz", image(0)[::-1, :, ::-1].astype(np.float32))
    assert found({"training": three[:1], "test": three[2:]}, tmp_path) == [("duplicate-mirrored", "error", "c")]


def test_a_copy_with_its_axes_in_another_order_is_found(tmp_path, three):
    turned = nib.Nifti1Image(image(0), np.eye(4)).as_reoriented(np.array([[2, 1], [0, 1], [1, 1]]))
    assert turned.shape != image(0).shape
    nib.save(turned, tmp_path / "c.nii.gz")
    assert ("duplicate", "error", "c") in found({"training": three[:1], "test": three[2:]}, tmp_path)


def test_a_duplicate_is_paired_with_the_case_that_it_leaks_to(tmp_path, three):
    for name in "bc":
        save(tmp_path / f"{name}.nii.gz", image(0))
    findings = check_manifest(manifest(validation=three[:1], test=three[1:]), tmp_path)
    assert [(item.case, item.severity) for item in findings] == [("b", "error"), ("c", "error")]
    assert all("case a (validation)" in item.text for item in findings)


def test_ids_that_differ_in_case_only_are_an_error(tmp_path, three):
    cases = [three[0], three[1] | {"id": "A"}, three[2]]
    assert found({"training": cases}, tmp_path) == [("id-case", "error", "A")]


def test_a_case_that_lacks_a_channel(tmp_path, three):
    two = [case | {"image": [case["image"], case["image"]]} for case in three[:2]]
    assert found({"training": [*two, three[2]]}, tmp_path) == [("channel-count", "error", "c")]


def test_mixed_orientations_and_unused_labels_are_notes_at_the_end(tmp_path, three):
    for suffix in ("", "_label"):
        voxels = image(5) if not suffix else np.ones((8, 7, 6), np.uint8)
        save(tmp_path / f"a{suffix}.nii.gz", voxels, np.diag([-1.0, 1, 1, 1]))
    result = found({"training": three}, tmp_path)
    assert result == [("orientation-mixed", "info", None)]
    assert found({"training": three[:1]}, tmp_path) == [("label-unused", "info", None)]


def test_findings_follow_the_manifest_and_not_the_number_of_workers(tmp_path, three):
    broken = make_broken_files(tmp_path / "broken")
    bad = [{"id": name, "image": f"broken/{path.name}"} for name, path in reversed(broken.items())]
    content = manifest(training=[*three, *bad], test=[{"id": "no label", "image": "a.nii.gz"}])
    alone, together = (check_manifest(content, tmp_path, workers=count) for count in (0, 2))
    assert alone == together
    order = [case.id for _, case in content.cases()]
    assert [item.case for item in alone if item.case] == sorted(
        (item.case for item in alone if item.case), key=order.index
    )
    assert {item.case for item in alone if item.severity == "error"} >= set(broken) - {"no_permission"}


def test_a_worker_that_dies_gives_a_finding_and_loses_no_other_case(tmp_path, three, monkeypatch):
    monkeypatch.setattr(checks, "examine_case", examine_or_die)
    save(tmp_path / "c.nii.gz", image(2) * 0)
    cases = [three[0], three[1] | {"id": "deadly"}, three[2]]
    assert found({"training": cases}, tmp_path, workers=2) == [
        ("worker-died", "error", "deadly"),
        ("image-constant", "error", "c"),
    ]


def test_an_empty_manifest_has_no_findings(tmp_path):
    assert found({}, tmp_path) == []


def test_two_hundred_real_cases_take_seconds(shared_data):
    root = shared_data / "hippocampus"
    names = sorted(path.name for path in (root / "imagesTr").glob("[!.]*.nii.gz"))
    cases = [{"id": name, "image": f"imagesTr/{name}", "label": f"labelsTr/{name}"} for name in names]
    labels = {"0": "background", "1": "anterior", "2": "posterior"}
    content = Manifest.model_validate({"name": "h", "modality": "MR", "labels": labels, "training": cases})
    start = time.monotonic()
    findings = check_manifest(content, root)
    assert time.monotonic() - start < 60  # 2 s on two free cores
    assert [item for item in findings if item.severity != "info"] == []
