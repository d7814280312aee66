"""One case: each fault gives its own finding."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from faults.broken_files import make_broken_files, write_good_file
from faults.small_dataset import SHAPE, image, label, manifest, save, write_case
from PIL import Image

from medssl.core.errors import GeometryError
from medssl.core.files import sha256_file
from medssl.data.case_checks import CaseTask, examine_case, require_same_grid
from medssl.data.manifest import Case
from medssl.data.volumes import read_header

LABELS = {"0": "background", "1": "anterior", "2": "posterior"}


def examine(root, entry, part="training"):
    ((_, case),) = manifest(**{part: [entry]}).cases()
    return examine_case(CaseTask(root=root, part=part, case=case, labels=LABELS))


def codes(root, entry, part="training"):
    return [(finding.code, finding.severity) for finding in examine(root, entry, part).findings]


@pytest.fixture
def case(tmp_path):
    return write_case(tmp_path, "a", seed=0)


def test_a_sound_case_has_no_findings(tmp_path, case):
    report = examine(tmp_path, case)
    assert report.findings == []
    assert report.orientation == "RAS"
    assert report.label_values == {0, 1, 2}
    assert len(report.digests) == 1


@pytest.mark.parametrize("name", ["truncated", "four_d", "nan_voxels", "zero_spacing", "huge_header", "empty"])
def test_a_broken_image_does_not_hide_a_broken_label(tmp_path, case, name):
    broken = make_broken_files(tmp_path / "broken")[name]
    save(tmp_path / case["label"], label() * 3)
    found = examine(tmp_path, case | {"image": f"broken/{broken.name}"}).findings
    assert "label-value" in {finding.code for finding in found}
    assert sum(finding.where == f"broken/{broken.name}" for finding in found) == 1
    assert {finding.case for finding in found} == {"a"}


def test_label_on_another_shape(tmp_path, case):
    save(tmp_path / case["label"], label((8, 7, 5)))
    assert codes(tmp_path, case) == [("label-shape", "error")]


def test_label_on_another_affine_names_the_distance(tmp_path, case):
    save(tmp_path / case["label"], label(), np.diag([-1.0, 1, 1, 1]))
    (finding,) = examine(tmp_path, case).findings
    assert finding.code == "label-affine"
    assert "14 mm" in finding.text
    assert "RAS and LAS" in finding.text


def test_rounding_in_the_affine_is_tolerated(tmp_path, case):
    save(tmp_path / case["label"], label(), np.diag([1.001, 1, 1, 1]))
    assert codes(tmp_path, case) == []


def test_channels_on_different_grids(tmp_path, case):
    save(tmp_path / "b.nii.gz", image(1, (8, 7, 5)))
    save(tmp_path / "c.nii.gz", image(2), np.diag([1.0, 1, 2, 1]))
    entry = case | {"image": ["a.nii.gz", "b.nii.gz", "c.nii.gz"]}
    assert codes(tmp_path, entry) == [("channel-shape", "error"), ("channel-affine", "error")]


def test_unknown_label_value_is_listed_with_the_known_ones(tmp_path, case):
    save(tmp_path / case["label"], label() * 7)
    (finding,) = examine(tmp_path, case).findings
    assert finding.code == "label-value"
    assert "1 anterior" in finding.text
    assert "found also 7, 14" in finding.text


def test_broken_label_values_are_an_error_and_whole_floats_a_note(tmp_path, case):
    save(tmp_path / case["label"], label().astype(np.float32))
    assert codes(tmp_path, case) == [("label-float", "info")]
    save(tmp_path / case["label"], label().astype(np.float32) * 0.5)
    assert ("label-not-integer", "error") in codes(tmp_path, case)


def test_empty_label_is_a_warning(tmp_path, case):
    save(tmp_path / case["label"], label() * 0)
    assert codes(tmp_path, case) == [("label-empty", "warning")]


@pytest.mark.parametrize(("part", "severity"), [("training", "error"), ("validation", "error"), ("test", "warning")])
def test_missing_label(tmp_path, case, part, severity):
    assert codes(tmp_path, {"id": "a", "image": "a.nii.gz"}, part) == [("label-missing", severity)]


def test_unlabelled_and_classified_cases_need_no_label(tmp_path, case):
    assert codes(tmp_path, {"id": "a", "image": "a.nii.gz"}, "unlabeled") == []
    assert codes(tmp_path, {"id": "a", "image": "a.nii.gz", "class": 1}) == []


def test_label_of_an_unlabelled_case_is_not_opened(tmp_path, case):
    (tmp_path / case["label"]).unlink()
    assert codes(tmp_path, case, "unlabeled") == [("label-ignored", "info")]


def test_constant_image(tmp_path, case):
    save(tmp_path / "a.nii.gz", np.full(SHAPE, 5, np.int16))
    assert codes(tmp_path, case) == [("image-constant", "error")]


def test_changed_file(tmp_path, case):
    digest = sha256_file(tmp_path / "a.nii.gz")
    assert codes(tmp_path, case | {"sha256": digest}) == []
    save(tmp_path / "a.nii.gz", image(9))
    assert codes(tmp_path, case | {"sha256": digest}) == [("sha256", "error")]


def test_path_that_leaves_the_root(tmp_path, case):
    (tmp_path / "inner").mkdir()
    entry = {"id": "a", "image": "../a.nii.gz", "label": "../a_label.nii.gz"}
    found = examine(tmp_path / "inner", entry).findings
    assert {finding.code for finding in found} == {"manifest"}


def test_link_that_leads_outside_is_followed_and_reported(tmp_path, case):
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "link.nii.gz").symlink_to(tmp_path / "a.nii.gz")
    report = examine(tmp_path / "inner", {"id": "a", "image": "link.nii.gz"}, "unlabeled")
    assert [(finding.code, finding.severity) for finding in report.findings] == [("link-outside", "info")]
    assert report.digests is not None


def test_a_data_root_that_is_itself_a_link_is_no_finding(tmp_path, case):
    (tmp_path / "root").symlink_to(tmp_path)
    assert codes(tmp_path / "root", case) == []


def test_loop_of_links_is_a_missing_file(tmp_path):
    (tmp_path / "a.nii.gz").symlink_to(tmp_path / "a.nii.gz")
    found = codes(tmp_path, {"id": "a", "image": "a.nii.gz", "sha256": "0" * 64}, "unlabeled")
    assert ("file-missing", "error") in found
    assert not [code for code, _ in found if code == "unexpected"]


def test_infinite_label_is_refused(tmp_path, case):
    voxels = label().astype(np.float32)
    voxels[0, 0, 0] = np.inf
    save(tmp_path / case["label"], voxels)
    assert codes(tmp_path, case) == [("image-not-finite", "error")]


def test_tolerance_follows_the_smallest_voxel_edge(tmp_path):
    first = read_header(write_good_file(tmp_path / "a.nii.gz"))
    content = bytearray(gzip.decompress((tmp_path / "a.nii.gz").read_bytes()))
    for name, shift in (("near", 0.24), ("far", 0.26)):
        struct.pack_into("<f", content, 280 + 12, shift)  # along x, where an edge is 1 mm
        (tmp_path / f"{name}.nii").write_bytes(content)
    require_same_grid(first, read_header(tmp_path / "near.nii"), "label")
    with pytest.raises(GeometryError, match=r"0\.26 mm"):
        require_same_grid(first, read_header(tmp_path / "far.nii"), "label")


def _image_task(folder: Path, pixels, **known) -> CaseTask:
    Image.fromarray(pixels).save(folder / "a.png")
    case = Case(id="a", image=("a.png",), **known)
    return CaseTask(root=folder, part="training", case=case, labels={"0": "plain", "1": "spot"})


def test_an_image_with_a_class_needs_no_label(tmp_path: Path) -> None:
    report = examine_case(_image_task(tmp_path, np.arange(12, dtype=np.uint8).reshape(3, 4), **{"class": 1}))
    assert report.findings == []
    assert report.digests is not None


def test_what_is_wrong_with_an_image_is_found(tmp_path: Path) -> None:
    report = examine_case(_image_task(tmp_path, np.zeros((3, 4), dtype=np.uint8)))
    assert [finding.code for finding in report.findings] == ["image-constant", "class-missing"]
    task = _image_task(tmp_path, np.zeros((3, 4), dtype=np.uint8), **{"class": 1})
    (tmp_path / "a.png").write_bytes(b"")
    assert [finding.code for finding in examine_case(task).findings] == ["file-empty"]
