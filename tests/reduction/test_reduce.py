"""Reducing manifests: what is kept in each scope, planted duplicates, and data that is not what it should be."""

from dataclasses import replace

import numpy as np
import pytest
from faults.small_dataset import save
from PIL import Image
from small_scans import ct, scan, write

from medssl.core.errors import ConfigError
from medssl.reduction.folders import manifest_of_images
from medssl.reduction.hashing import hamming
from medssl.reduction.reduce import reduce_manifest
from medssl.reduction.settings import Settings


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return tmp_path_factory.mktemp("scans")


@pytest.fixture(scope="module")
def content(root):
    """Three scans of two patients; "copy" is "a" again, and "kernel" is "b" with noise."""
    noise = np.random.default_rng(9).normal(0, 5, (24, 24, 12))
    cases = [
        write(root, "a", scan(1), patient="p1"),
        write(root, "b", scan(2), patient="p2"),
        write(root, "copy", scan(1), patient="p1"),
        write(root, "kernel", (scan(2) + noise).astype(np.int16), patient="p3"),
    ]
    return ct(unlabeled=cases)


def kept(audit):
    return [row.place for row in audit.rows if row.kept]


def kept_of(audit, case):
    return [number for name, number in kept(audit) if name == case]


def codes(reduced):
    return {finding.code for finding in reduced.findings}


def test_a_volume_is_reduced_by_itself(content, root):
    audit, findings = reduce_manifest(content, root, Settings(), workers=0)
    assert findings == []
    assert kept_of(audit, "a") == kept_of(audit, "copy")
    assert 1 < len(kept_of(audit, "a")) < 12
    hashes = np.array([int(row.hash, 16) for row in audit.rows if row.case == "b" and row.kept], np.uint64)
    assert all(hamming(a, b) > 6 for i, a in enumerate(hashes) for b in hashes[:i])


def test_a_planted_copy_is_found_within_a_patient_and_a_second_kernel_within_the_data_set(content, root):
    patient, _ = reduce_manifest(content, root, Settings(scope="patient"), workers=0)
    assert kept_of(patient, "copy") == [] and kept_of(patient, "kernel") != []
    whole, _ = reduce_manifest(content, root, Settings(scope="dataset"), workers=0)
    assert kept_of(whole, "copy") == [] and len(kept_of(whole, "kernel")) < len(kept_of(whole, "b")) / 2
    row = next(row for row in whole.rows if row.case == "copy" and row.nearest_distance == 0)
    assert row.nearest[0] == "a"


def test_every_dropped_slice_names_a_kept_neighbour_within_the_threshold(content, root):
    audit, _ = reduce_manifest(content, root, Settings(scope="dataset"), workers=0)
    stays = set(kept(audit))
    dropped = [row for row in audit.rows if not row.kept]
    assert dropped
    assert all(row.removed_by in stays and row.removed_distance <= 6 for row in dropped)
    assert all(row.nearest in stays and row.nearest_distance <= row.removed_distance for row in dropped)


@pytest.mark.parametrize(
    "settings",
    [
        Settings(),
        Settings(scope="dataset"),
        Settings(method="every_n", every=3),
        Settings(method="every_n", budget=4),
        Settings(budget=3, scope="patient"),
        Settings(method="ssim", size=24),
        Settings(method="nmi", size=24, threshold=0.2),
    ],
)
def test_reducing_twice_gives_the_same_audit(content, root, settings):
    once, _ = reduce_manifest(content, root, settings, workers=0)
    twice, _ = reduce_manifest(content, root, settings, previous=once, workers=0)
    assert twice == once
    assert 0 < len(kept(once)) < 48


def test_a_second_reduction_by_other_settings_looks_only_at_what_was_kept(content, root):
    once, _ = reduce_manifest(content, root, Settings(), workers=0)
    more, _ = reduce_manifest(content, root, Settings(scope="dataset"), previous=once, workers=0)
    assert set(kept(more)) < set(kept(once))
    assert [entry["scope"] for entry in more.history] == ["volume"]


def test_the_number_of_workers_does_not_matter(content, root):
    alone, _ = reduce_manifest(content, root, Settings(scope="dataset"), workers=0)
    assert reduce_manifest(content, root, Settings(scope="dataset"), workers=2)[0] == alone


def test_budgets(content, root):
    evenly, _ = reduce_manifest(content, root, Settings(method="every_n", budget=4), workers=0)
    assert kept_of(evenly, "a") == [1, 4, 7, 10]
    different, _ = reduce_manifest(content, root, Settings(budget=4), workers=0)
    assert len(kept_of(different, "a")) == 4 and kept_of(different, "a")[0] == 0
    given = {"a": 2, "b": 5}
    like, _ = reduce_manifest(content, root, Settings(method="every_n", budget="given"), budgets=given, workers=0)
    assert [len(kept_of(like, case)) for case in ("a", "b", "copy")] == [2, 5, 0]


def test_every_n_and_all(content, root):
    third, _ = reduce_manifest(content, root, Settings(method="every_n", every=3), workers=0)
    assert kept_of(third, "a") == [0, 3, 6, 9]
    assert {row.reason for row in third.rows} == {"exemplar", "not_in_stride"}
    assert len(kept(reduce_manifest(content, root, Settings(method="all"), workers=0)[0])) == 48


def test_similarities_without_a_threshold_keep_about_as_many_as_hashes(content, root):
    hashed = len(kept(reduce_manifest(content, root, Settings(), workers=0)[0]))
    for method in ("ssim", "nmi"):
        audit, _ = reduce_manifest(content, root, Settings(method=method, size=24), workers=0)
        assert abs(len(kept(audit)) - hashed) <= 8
        assert 0 < audit.settings["threshold_used"] < 1


def test_embeddings_of_any_function_are_compared_by_their_angle(content, root):
    settings = Settings(method="embedding", threshold=0.9, size=16)
    audit, _ = reduce_manifest(content, root, settings, encoder=lambda x: x.reshape(len(x), -1) - 128.0, workers=0)
    assert 4 <= len(kept(audit)) < 48
    assert all(row.removed_distance < 0.1 for row in audit.rows if not row.kept)


def test_whole_volumes(content, root):
    audit, _ = reduce_manifest(content, root, Settings(unit="volume", scope="dataset"), workers=0)
    assert kept(audit) == [("a", 0), ("b", 0)]
    assert {row.case: row.removed_by for row in audit.rows if not row.kept} == {"copy": ("a", 0), "kernel": ("b", 0)}


def test_protected_cases_stay_whole(content, root):
    settings = Settings(scope="dataset", protect=("copy",))
    audit, _ = reduce_manifest(content, root, settings, workers=0)
    assert len(kept_of(audit, "copy")) == 12
    assert kept_of(audit, "a") == []
    with pytest.raises(ConfigError, match="nobody"):
        reduce_manifest(content, root, replace(settings, protect=("nobody",)), workers=0)


def test_one_unreadable_case_does_not_stop_the_others(content, root):
    bad = ct(unlabeled=[*content.to_json()["unlabeled"], {"id": "gone", "image": "gone.nii.gz"}])
    (root / "torn.nii.gz").write_bytes((root / "a.nii.gz").read_bytes()[:500])
    torn = ct(unlabeled=[*bad.to_json()["unlabeled"], {"id": "torn", "image": "torn.nii.gz"}])
    reduced = reduce_manifest(torn, root, Settings(), workers=0)
    assert {finding.case for finding in reduced.findings if finding.severity == "error"} == {"gone", "torn"}
    assert [row.reason for row in reduced.audit.rows[-2:]] == ["unreadable"] * 2
    assert len(kept_of(reduced.audit, "a")) > 1


def test_mixed_modalities_and_sizes_are_named(content, tmp_path):
    cases = [write(tmp_path, name, scan(seed)) for seed, name in enumerate("abc")]
    cases.append(write(tmp_path, "mr", scan(5, side=30) + 1000))
    reduced = reduce_manifest(ct(unlabeled=cases), tmp_path, Settings(), workers=0)
    found = {(finding.code, finding.case) for finding in reduced.findings}
    assert found == {("no-hu", "mr"), ("modality-mixed", "mr"), ("size-mixed", None)}


def test_8_bit_images_without_hu_are_named(tmp_path):
    cases = [write(tmp_path, "a", (scan(1) // 8 + 128).clip(0, 255).astype(np.uint8))]
    assert codes(reduce_manifest(ct(unlabeled=cases), tmp_path, Settings(), workers=0)) == {"no-hu"}
    assert codes(reduce_manifest(ct("MR", unlabeled=cases), tmp_path, Settings(), workers=0)) == set()


def test_constant_slices_are_dropped_first_and_a_case_of_them_is_named(tmp_path):
    voxels = scan(1)
    voxels[..., :4] = -1000
    cases = [write(tmp_path, "a", voxels), write(tmp_path, "air", np.full((9, 9, 5), -1000, np.int16))]
    reduced = reduce_manifest(ct(unlabeled=cases), tmp_path, Settings(scope="dataset"), workers=0)
    assert [row.reason for row in reduced.audit.rows if not row.kept][:4] == ["empty_slice"] * 4
    assert {(finding.code, finding.case) for finding in reduced.findings} >= {("all-empty", "air")}


@pytest.mark.parametrize(("threshold", "code"), [(0, "keeps-everything"), (64, "keeps-nothing")])
def test_a_threshold_that_decides_nothing_is_named(tmp_path, threshold, code):
    cases = [write(tmp_path, "a", np.random.default_rng(1).integers(-900, 300, (30, 30, 9)).astype(np.int16))]
    assert codes(reduce_manifest(ct(unlabeled=cases), tmp_path, Settings(threshold=threshold), workers=0)) == {code}


def test_images_compared_with_nothing_are_named(tmp_path):
    for name in "ab":
        Image.fromarray(np.arange(600, dtype=np.uint8).reshape(20, 30)).save(tmp_path / f"{name}.png")
    images = manifest_of_images(tmp_path, modality="X-ray")
    assert codes(reduce_manifest(images, tmp_path, Settings(), workers=0)) == {"scope-alone"}
    assert kept(reduce_manifest(images, tmp_path, Settings(scope="dataset"), workers=0)[0]) == [("a.png", 0)]


def test_labelled_cases_are_refused_unless_allowed(tmp_path):
    save(tmp_path / "l.nii.gz", np.zeros((24, 24, 12), np.uint8))
    labelled = ct(training=[write(tmp_path, "a", scan(1), label="l.nii.gz")])
    with pytest.raises(ConfigError, match="--allow-labelled"):
        reduce_manifest(labelled, tmp_path, Settings(parts=("training",)), workers=0)
    allowed = Settings(parts=("training",), allow_labelled=True)
    assert len(kept(reduce_manifest(labelled, tmp_path, allowed, workers=0)[0])) > 1


def test_a_part_without_cases_is_refused(content, root):
    with pytest.raises(ConfigError, match="--part"):
        reduce_manifest(content, root, Settings(parts=("test",)), workers=0)


def images(folder, count=6):
    rng = np.random.default_rng(3)
    for number in range(count):
        Image.fromarray(rng.integers(0, 255, (32, 32), dtype=np.uint8)).save(folder / f"{number}.png")
    return manifest_of_images(folder, modality="X-ray")


def test_every_n_counts_images_and_not_their_slices(tmp_path):
    settings = Settings(method="every_n", every=2, scope="dataset")
    assert [case for case, _ in kept(reduce_manifest(images(tmp_path), tmp_path, settings, workers=0).audit)] == [
        "0.png",
        "2.png",
        "4.png",
    ]


def test_a_file_that_changed_since_is_looked_at_anew_and_named(tmp_path):
    content = ct(unlabeled=[write(tmp_path, "a", scan(1)), write(tmp_path, "b", scan(2))])
    before = reduce_manifest(content, tmp_path, Settings(), workers=0).audit
    write(tmp_path, "a", scan(7))
    again = reduce_manifest(content, tmp_path, Settings(), previous=before, workers=0)
    fresh = reduce_manifest(content, tmp_path, Settings(), workers=0).audit
    assert [(finding.code, finding.case) for finding in again.findings] == [("changed", "a")]
    assert kept(again.audit) == kept(fresh)


def test_a_file_that_was_mended_has_all_its_slices(tmp_path):
    content = ct(unlabeled=[write(tmp_path, "a", scan(1)), write(tmp_path, "b", scan(2))])
    whole = (tmp_path / "b.nii.gz").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(whole[:100])
    before = reduce_manifest(content, tmp_path, Settings(), workers=0).audit
    (tmp_path / "b.nii.gz").write_bytes(whole)
    again = reduce_manifest(content, tmp_path, Settings(), previous=before, workers=0)
    assert kept(again.audit) == kept(reduce_manifest(content, tmp_path, Settings(), workers=0).audit)
    assert again.findings == []


def test_a_case_protected_later_comes_back(content, root):
    before = reduce_manifest(content, root, Settings(scope="dataset"), workers=0).audit
    settings = Settings(scope="dataset", protect=("copy",))
    after = reduce_manifest(content, root, settings, previous=before, workers=0).audit
    assert kept_of(before, "copy") == []
    assert len(kept_of(after, "copy")) == 12
