"""Which slices are learnt from, how they lie, and crops that depend on their position only."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from methods.slice_contrast.small_slices import crops, write_volumes
from monai.data import DataLoader
from monai.transforms import Compose, Identity
from PIL import Image

from medssl.core.errors import ConfigError, ImageError, ManifestError
from medssl.data.datasets import SampleKey
from medssl.data.manifest import load_manifest, save_manifest
from medssl.methods.slice_contrast import SliceCrops, pretraining_slices
from medssl.reduction.audit import save_reduced
from medssl.reduction.folders import manifest_of_images
from medssl.reduction.reduce import reduce_manifest
from medssl.reduction.settings import Settings

WHOLE = [{"count": 2, "transform": Compose([Identity()])}]


def test_all_slices_are_listed_from_inferior_to_superior(tmp_path: Path) -> None:
    found = pretraining_slices(manifest=str(write_volumes(tmp_path)))
    assert [(each["case_id"], each["slice"]) for each in found] == [(f"ct_{v}", k) for v in range(2) for k in range(8)]


def test_of_a_reduced_manifest_the_kept_slices_are_listed(tmp_path: Path) -> None:
    manifest = load_manifest(write_volumes(tmp_path))
    audit = reduce_manifest(manifest, tmp_path, Settings(method="every_n", every=3), workers=0).audit
    save_reduced(tmp_path / "reduced.json", manifest, audit)
    found = pretraining_slices(manifest=str(tmp_path / "reduced.json"))
    assert [each["slice"] for each in found] == [0, 3, 6] * 2


def test_a_changed_audit_is_refused(tmp_path: Path) -> None:
    manifest = load_manifest(write_volumes(tmp_path))
    save_reduced(tmp_path / "r.json", manifest, reduce_manifest(manifest, tmp_path, Settings(), workers=0).audit)
    (tmp_path / "r.reduction.jsonl").write_text("{}")
    with pytest.raises(ManifestError, match="hash differs"):
        pretraining_slices(manifest=str(tmp_path / "r.json"))


def test_held_out_parts_are_never_learnt_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Held-out"):
        pretraining_slices(manifest=str(write_volumes(tmp_path)), parts=["unlabeled", "test"])


@pytest.mark.parametrize(("orientation", "step"), [("RA", 1), ("LP", -1)])
def test_slices_lie_as_asked(tmp_path: Path, orientation: str, step: int) -> None:
    manifest = write_volumes(tmp_path, count=1)
    data = SliceCrops(pretraining_slices(manifest=str(manifest)), WHOLE, orientation=orientation)
    expected = nib.load(tmp_path / "ct_0.nii.gz").get_fdata()[::step, ::step, 5]
    expected = np.rint((expected + 1000) * 255 / 1400) / 255
    assert np.allclose(data[5]["views"][0][0], expected, atol=1e-6)


def test_a_volume_stored_the_other_way_round_gives_the_same_slices(tmp_path: Path) -> None:
    write_volumes(tmp_path, count=1)
    image = nib.load(tmp_path / "ct_0.nii.gz")
    flipped = image.as_reoriented(nib.orientations.axcodes2ornt("SPL"))
    first = SliceCrops(pretraining_slices(manifest=str(tmp_path / "manifest.json")), WHOLE)
    nib.save(flipped, tmp_path / "ct_0.nii.gz")
    again = SliceCrops(pretraining_slices(manifest=str(tmp_path / "manifest.json")), WHOLE)
    assert len(first) == len(again) == 8
    assert all(torch.equal(first[k]["views"][0], again[k]["views"][0]) for k in range(8))


def test_images_keep_x_along_their_columns(tmp_path: Path) -> None:
    pixels = np.zeros((10, 14), dtype=np.uint8)
    pixels[2, 11] = 255
    Image.fromarray(pixels).save(tmp_path / "1.png")
    save_manifest(tmp_path / "m.json", manifest_of_images(tmp_path, modality="CT"))
    data = SliceCrops(pretraining_slices(manifest=str(tmp_path / "m.json")), WHOLE)
    assert data[0]["views"][0][0, 11, 2] == 1.0


def test_large_slices_are_resampled_to_the_side(tmp_path: Path) -> None:
    data = SliceCrops(pretraining_slices(manifest=str(write_volumes(tmp_path, count=1))), WHOLE, side=10)
    assert data[0]["views"][0].shape == (1, 10, 12)


def test_crops_depend_on_seed_and_position_alone(tmp_path: Path) -> None:
    listed = pretraining_slices(manifest=str(write_volumes(tmp_path, count=1)))
    data = SliceCrops(listed, crops(), seed=1)
    first = data[SampleKey(3, 40)]["views"]
    data[SampleKey(2, 41)]
    again, later = data[SampleKey(3, 40)]["views"], data[SampleKey(3, 48)]["views"]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], later[0])
    assert not torch.equal(first[0], SliceCrops(listed, crops(), seed=2)[SampleKey(3, 40)]["views"][0])


def test_a_batch_holds_one_tensor_for_each_crop(tmp_path: Path) -> None:
    data = SliceCrops(pretraining_slices(manifest=str(write_volumes(tmp_path))), crops())
    batch = next(iter(DataLoader(data, batch_size=3)))
    assert [tuple(view.shape) for view in batch["views"]] == [(3, 1, 16, 16)] * 2 + [(3, 1, 8, 8)] * 2
    assert batch["case_id"] == ["ct_0"] * 3


def test_a_broken_file_is_named_by_its_case(tmp_path: Path) -> None:
    listed = pretraining_slices(manifest=str(write_volumes(tmp_path)))
    (tmp_path / "ct_1.nii.gz").write_bytes((tmp_path / "ct_1.nii.gz").read_bytes()[:900])
    with pytest.raises(ImageError, match=r"case ct_1: .*medssl check"):
        SliceCrops(listed, crops())


def test_a_file_with_fewer_slices_than_reduced_is_refused(tmp_path: Path) -> None:
    listed = pretraining_slices(manifest=str(write_volumes(tmp_path, count=1)))
    write_volumes(tmp_path, count=1, shape=(20, 24, 4))
    with pytest.raises(ImageError, match="expected a slice 4"):
        SliceCrops(listed, crops())


def test_a_single_crop_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least 2"):
        SliceCrops([], [{"count": 1, "transform": Compose([Identity()])}])
