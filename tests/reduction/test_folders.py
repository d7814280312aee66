"""Manifests of folders of 2D images."""

import numpy as np
import pytest
from PIL import Image

from medssl.core.errors import ConfigError
from medssl.reduction.folders import manifest_of_images


def test_images_are_sorted_as_people_count(tmp_path):
    for name in ("p2/s10.png", "p2/s2.jpg", "p10/s1.png", "top.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    cases = manifest_of_images(tmp_path, modality="CT").unlabeled
    assert [case.id for case in cases] == ["p2--s2.jpg", "p2--s10.png", "p10--s1.png", "top.png"]
    assert [case.patient for case in cases] == ["p2", "p2", "p10", None]


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="medssl import"):
        manifest_of_images(tmp_path, modality="CT")


def test_what_systems_leave_beside_images_is_none(tmp_path):
    for name in ("a.png", "._a.png", ".hidden.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    assert [case.id for case in manifest_of_images(tmp_path, modality="CT").unlabeled] == ["a.png"]


def test_names_that_would_be_one_id_are_refused(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("a/x.png", "a--x.png"):
        Image.new("L", (8, 8)).save(tmp_path / name)
    with pytest.raises(ConfigError, match="differ"):
        manifest_of_images(tmp_path, modality="CT")
