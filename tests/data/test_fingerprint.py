"""Fingerprints against plain NumPy on phantoms, and on real cases."""

import json

import numpy as np
import pytest
from faults.broken_files import make_broken_files
from faults.small_dataset import image, label, manifest, save, write_case
from hypothesis import given, settings
from hypothesis import strategies as st

from medssl.core.errors import ConfigError
from medssl.data.fingerprint import _sample, fingerprint
from medssl.data.manifest import Manifest


@pytest.fixture
def cases(tmp_path):
    return [write_case(tmp_path, name, seed=seed) for seed, name in enumerate("abc")]


def measure(root, *, part="training", **parts):
    return fingerprint(manifest(**parts), root, part=part)


def test_intensities_equal_numpys(tmp_path, cases):
    result, findings = measure(tmp_path, training=cases)
    inside = np.concatenate([image(seed)[label() > 0] for seed in range(3)])
    everywhere = np.concatenate([image(seed)[image(seed) != 0] for seed in range(3)])
    assert findings == []
    assert result.foreground[0].mean == pytest.approx(inside.mean())
    assert result.foreground[0].standard_deviation == pytest.approx(inside.std())
    assert result.foreground[0].percentile_99_5 == pytest.approx(np.percentile(inside, 99.5))
    assert result.nonzero[0].median == pytest.approx(np.median(everywhere))
    assert result.nonzero[0].percentile_00_5 == pytest.approx(np.percentile(everywhere, 0.5))


def test_label_shares_and_presence(tmp_path, cases):
    save(tmp_path / "c_label.nii.gz", np.minimum(label(), 1))
    result, _ = measure(tmp_path, training=cases)
    assert result.label_voxels == {"0": 3 * 336 - 3 * 36, "1": 81 + 9, "2": 18}
    assert sum(result.label_share.values()) == pytest.approx(1)
    assert result.label_cases == {"0": 3, "1": 3, "2": 2}


def test_shape_and_spacing_are_in_the_order_of_ras(tmp_path):
    # I runs towards inferior, J towards left, K towards anterior
    affine = np.array([[0, -2, 0, 0], [0, 0, 3, 0], [-1, 0, 0, 0], [0, 0, 0, 1]], float)
    save(tmp_path / "a.nii.gz", image(0), affine)
    result, _ = measure(tmp_path, part="unlabeled", unlabeled=[{"id": "a", "image": "a.nii.gz"}])
    assert result.spacing_mm.median == (2, 3, 1)
    assert result.shape.median == (7, 6, 8)
    assert result.cases[0].shape == (8, 7, 6)
    assert result.cases[0].orientation == "ILA"


def test_spread_of_several_spacings(tmp_path, cases):
    for name, size in zip("abc", (1.0, 2.0, 4.0), strict=True):
        for suffix in ("", "_label"):
            save(tmp_path / f"{name}{suffix}.nii.gz", label() if suffix else image(0), np.diag([size, 1, 1, 1]))
    spacing = measure(tmp_path, training=cases)[0].spacing_mm
    assert (spacing.minimum[0], spacing.median[0], spacing.maximum[0]) == (1, 2, 4)
    assert spacing.percentile_10[0] == pytest.approx(1.2)


def test_without_labels_there_is_no_foreground(tmp_path, cases):
    result, _ = measure(tmp_path, part="unlabeled", unlabeled=cases)  # their labels are named, but not read
    assert result.foreground is None
    assert result.label_voxels == {}


def test_channels_are_measured_apart(tmp_path, cases):
    save(tmp_path / "second.nii.gz", image(0) + 5000)
    entry = cases[0] | {"image": ["a.nii.gz", "second.nii.gz"]}
    result, _ = measure(tmp_path, training=[entry])
    assert result.channels == 2
    assert result.foreground[1].mean == pytest.approx(result.foreground[0].mean + 5000)


def test_unreadable_cases_are_left_out_and_reported(tmp_path, cases):
    broken = make_broken_files(tmp_path / "broken")
    bad = [{"id": name, "image": f"broken/{broken[name].name}"} for name in ("empty", "nan_voxels")]
    save(tmp_path / "b_label.nii.gz", label() * 0.5)
    result, findings = measure(tmp_path, training=[bad[0], *cases, bad[1]])
    assert result.left_out == ("empty", "b", "nan_voxels")
    assert [item.code for item in findings] == ["file-empty", "label-not-integer", "image-not-finite"]
    assert [case.id for case in result.cases] == ["a", "c"]


def test_nothing_readable_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="none of 1"):
        measure(tmp_path, training=[{"id": "a", "image": "a.nii.gz"}])
    with pytest.raises(ConfigError, match="none of 0"):
        measure(tmp_path)


def test_different_numbers_of_channels_are_an_error(tmp_path, cases):
    with pytest.raises(ConfigError, match=r"found \[1, 2\]"):
        measure(tmp_path, training=[cases[0], cases[1] | {"image": ["b.nii.gz", "b.nii.gz"]}])


def test_a_channel_of_zeros_does_no_harm(tmp_path):
    save(tmp_path / "a.nii.gz", image(0) * 0)
    result, _ = measure(tmp_path, part="unlabeled", unlabeled=[{"id": "a", "image": "a.nii.gz"}])
    assert result.nonzero[0].standard_deviation == 0


def test_json_is_plain_and_names_the_manifest(tmp_path, cases):
    content = manifest(training=cases)
    result = json.loads(json.dumps(fingerprint(content, tmp_path)[0].to_json(), allow_nan=False))
    assert result["manifest_sha256"] == content.sha256()
    assert set(result["spacing_mm"]) == {"minimum", "percentile_10", "median", "percentile_90", "maximum"}


def test_the_number_of_workers_changes_nothing(tmp_path, cases):
    content = manifest(training=cases)
    assert fingerprint(content, tmp_path, workers=0) == fingerprint(content, tmp_path, workers=2)


@settings(max_examples=100, deadline=None)
@given(most=st.integers(1, 400), threshold=st.integers(0, 999))
def test_samples_are_evenly_spaced_voxels_of_the_region(most, threshold):
    voxels = np.asfortranarray(image(0))
    region = voxels > threshold
    inside = voxels.transpose(2, 0, 1)[region.transpose(2, 0, 1)]
    positions = np.linspace(0, inside.size - 1, min(most, inside.size)).round().astype(int)
    assert np.array_equal(_sample(voxels, region, most), inside[positions].astype(np.float32))


def test_real_hippocampus_is_one_millimetre(shared_data):
    root = shared_data / "hippocampus"
    names = sorted(path.name for path in (root / "imagesTr").glob("[!.]*.nii.gz"))[:20]
    entries = [{"id": name, "image": f"imagesTr/{name}", "label": f"labelsTr/{name}"} for name in names]
    content = Manifest.model_validate(
        {"name": "h", "modality": "MR", "labels": {"0": "background", "1": "a", "2": "p"}, "training": entries}
    )
    result, findings = fingerprint(content, root)
    assert findings == []
    assert result.spacing_mm.median == (1, 1, 1)
    assert 0.01 < result.label_share["1"] < 0.1
