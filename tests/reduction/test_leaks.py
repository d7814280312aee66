"""Leaks between parts: planted copies, kernels and patients are found, clean data gives none."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from small_scans import ct, scan, write

from medssl.core.errors import ConfigError
from medssl.reduction.leaks import _confirmed, find_leaks, is_leak, without_leaks


@pytest.fixture
def clean(tmp_path):
    parts = {"training": 1, "unlabeled": 2, "validation": 3, "test": 4}
    return ct(**{part: [write(tmp_path, f"{part}-case", scan(seed))] for part, seed in parts.items()})


def add(manifest, part, case):
    content = manifest.to_json()
    content[part].append(case)
    return type(manifest).model_validate(content)


def test_clean_data_gives_none(clean, tmp_path):
    leaks, findings = find_leaks(clean, tmp_path, workers=0)
    assert findings == []
    assert not any(leak.is_same_scan or leak.equal for leak in leaks)


@pytest.mark.parametrize(
    ("held_out", "trained"), [(3, "training"), (3, "unlabeled"), (4, "training"), (4, "validation")]
)
def test_a_planted_copy_is_found(clean, tmp_path, held_out, trained):
    manifest = add(clean, trained, write(tmp_path, "copy", scan(held_out)))
    leaks, findings = find_leaks(manifest, tmp_path, workers=0)
    found = next(leak for leak in leaks if leak.trained == "copy")
    assert found.held_out == ("validation-case" if held_out == 3 else "test-case")
    assert found.equal == found.near == found.slices == 12
    assert [finding.code for finding in findings] == ["leak-same-file"]


def test_a_second_kernel_is_found_and_taken_out(clean, tmp_path):
    noise = np.random.default_rng(0).normal(0, 5, (24, 24, 12))
    manifest = add(clean, "training", write(tmp_path, "kernel", (scan(4) + noise).astype(np.int16)))
    leaks, _ = find_leaks(manifest, tmp_path, workers=0)
    assert next(leak for leak in leaks if leak.trained == "kernel").is_same_scan
    assert without_leaks(manifest, leaks) == clean


def test_one_equal_slice_is_found(clean, tmp_path):
    voxels = scan(8)
    voxels[..., 6] = scan(4)[..., 3]
    leaks, findings = find_leaks(add(clean, "training", write(tmp_path, "spliced", voxels)), tmp_path, workers=0)
    assert next(leak for leak in leaks if leak.trained == "spliced").equal == 1
    assert [finding.code for finding in findings] == ["leak-equal-slice"]


def test_empty_slices_are_no_leak(clean, tmp_path):
    voxels = scan(8)
    voxels[..., :5] = -1000
    manifest = add(clean, "training", write(tmp_path, "one", voxels))
    manifest = add(manifest, "test", write(tmp_path, "two", np.full((24, 24, 12), -1000, np.int16)))
    assert find_leaks(manifest, tmp_path, workers=0)[1] == []


def test_one_patient_in_two_parts_is_an_error_without_the_name(clean, tmp_path):
    manifest = add(clean, "training", write(tmp_path, "one", scan(8), patient="Ann Doe"))
    manifest = add(manifest, "test", write(tmp_path, "two", scan(9), patient="Ann Doe"))
    findings = find_leaks(manifest, tmp_path, workers=0)[1]
    assert [finding.code for finding in findings] == ["patient-split"]
    assert "Ann" not in findings[0].text


def test_an_unreadable_file_is_a_finding(clean, tmp_path):
    manifest = add(clean, "training", {"id": "gone", "image": "gone.nii.gz"})
    assert [finding.case for finding in find_leaks(manifest, tmp_path, workers=0)[1]] == ["gone"]


def test_look_alike_slices_of_different_patients_accuse_nobody(tmp_path):
    """Volumes that share their anatomy, as heads without skull do: near by 64 bits, told apart by detail."""
    rng = np.random.default_rng(0)
    shared = gaussian_filter(rng.normal(size=(40, 40, 24)), 7)
    shared *= 400 / shared.std()

    def person(seed):
        detail = gaussian_filter(np.random.default_rng(seed).normal(size=shared.shape), 1.2)
        return (shared + detail / detail.std() * 28 - 300).clip(-1000, 400)

    train = [write(tmp_path, f"train{seed}", person(seed).astype(np.int16)) for seed in range(10)]
    again = (person(3) + rng.normal(0, 7, shared.shape)).clip(-1000, 400).astype(np.int16)
    held_out = [write(tmp_path, "new", person(50).astype(np.int16)), write(tmp_path, "again", again)]
    leaks, findings = find_leaks(ct(training=train, test=held_out), tmp_path, workers=0)
    assert sum(leak.alike > 0 for leak in leaks) > 1
    assert [(leak.held_out, leak.trained) for leak in leaks if is_leak(leak)] == [("again", "train3")]
    assert [(each.code, each.case) for each in findings] == [("leak-same-scan", "again")]


@pytest.mark.parametrize(
    ("differ", "distance", "expected"),
    [
        (0, 0, (0, 0)),
        (6, 0, (0, 0)),
        (7, 0, (1, 0)),
        (24, 0, (1, 0)),
        (24, 5, (5, 5)),
        (25, 0, (255, 0)),
        (60, 6, (255, 6)),
        (61, 0, (255, 255)),
    ],
)
def test_the_finer_hash_has_to_agree(differ, distance, expected):
    """Of two slices of volumes, and of two images."""
    one, other = np.zeros((2, 4), np.uint64), np.zeros((2, 4), np.uint64)
    other[:, 0] = np.uint64((1 << differ) - 1)
    found = _confirmed(np.full(2, distance, np.uint8), one, other, both_volumes=np.array([True, False]))
    assert tuple(found.tolist()) == expected


def test_a_patient_scanned_again_elsewhere_is_found_by_likeness_alone(tmp_path):
    """Moved by one row of a thumbnail, no slice is near; the details are the same."""

    def person(seed):
        detail = gaussian_filter(np.random.default_rng(seed).normal(size=(46, 46, 26)), (4, 4, 1))
        return (detail / detail.std() * 150 - 300).clip(-1000, 400).astype(np.int16)

    train = [write(tmp_path, f"train{seed}", person(seed)[:40, :40, :24]) for seed in range(10)]
    test = [write(tmp_path, "again", person(3)[5:45, :40, :24]), write(tmp_path, "new", person(60)[:40, :40, :24])]
    leaks, findings = find_leaks(ct(training=train, test=test), tmp_path, workers=0)
    accused = [(leak.held_out, leak.trained, leak.near) for leak in leaks if is_leak(leak)]
    assert accused == [("again", "train3", 0)]
    assert [(each.code, each.case) for each in findings] == [("leak-same-patient", "again")]


def test_a_look_alike_image_is_counted_and_not_accused(tmp_path):
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=(64, 64)), 9)
    rough = gaussian_filter(np.random.default_rng(1).normal(size=(64, 64)), 1.5)
    for name, values in (("a", smooth), ("b", smooth + rough * 0.4), ("c", smooth + rough * 0.001)):
        scaled = (values - values.min()) / (values.max() - values.min()) * 255
        Image.fromarray(scaled.astype(np.uint8)).save(tmp_path / f"{name}.png")
    cases = [{"id": name, "image": f"{name}.png"} for name in "abc"]
    leaks, _ = find_leaks(ct(training=cases[:1], test=cases[1:]), tmp_path, workers=0)
    assert [leak.held_out for leak in leaks if is_leak(leak)] == ["c"]


def test_a_volume_that_shows_little_is_warned_of(tmp_path):
    voxels = np.full((60, 60, 12), -1000, np.int16)
    voxels[26:34, 26:34] = scan(4, side=8)
    manifest = ct(training=[write(tmp_path, "one", scan(1))], test=[write(tmp_path, "small", voxels)])
    findings = find_leaks(manifest, tmp_path, workers=0)[1]
    assert [(each.code, each.case) for each in findings] == [("leak-little-shown", "small")]


def test_a_path_out_of_the_root_is_a_finding(clean, tmp_path):
    manifest = add(clean, "training", {"id": "away", "image": "../away.nii.gz"})
    assert [finding.case for finding in find_leaks(manifest, tmp_path, workers=0)[1]] == ["away"]


@pytest.mark.parametrize("threshold", [-1, 64])
def test_thresholds_that_are_none_are_refused(clean, tmp_path, threshold):
    with pytest.raises(ConfigError, match="0 to 63"):
        find_leaks(clean, tmp_path, threshold=threshold, workers=0)
