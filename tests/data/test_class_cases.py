"""Classes of whole images: by name or value, in the order of the network, never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
from inference.slice_bundle import NAMES, write_images

from medssl.core.errors import ConfigError, ManifestError
from medssl.data.class_cases import class_of, training_images, validation_images
from medssl.data.manifest import Case, load_manifest, save_manifest

LABELS = {"0": "plain", "1": "Spot"}


@pytest.mark.parametrize("given", [1, "1", "spot", "SPOT"])
def test_a_class_is_a_name_or_a_value_of_the_labels(given: int | str) -> None:
    assert class_of(Case(id="a", image=("a.png",), **{"class": given}), LABELS) == "Spot"


@pytest.mark.parametrize(("given", "told"), [(7, "0 plain, 1 Spot"), ("sport", "Did you mean"), (None, "found none")])
def test_an_unknown_class_is_told_with_the_known_ones(given: int | str | None, told: str) -> None:
    with pytest.raises(ManifestError, match=f"case a: .*{told}"):
        class_of(Case(id="a", image=("a.png",), **{"class": given}), LABELS)


def test_positions_follow_the_order_of_the_network(tmp_path: Path) -> None:
    manifest = str(write_images(tmp_path))
    forward = training_images(manifest=manifest, class_names=NAMES)
    backward = training_images(manifest=manifest, class_names=NAMES[::-1])
    assert [case["label"] for case in forward] == [0, 1] * 4
    assert [case["label"] for case in backward] == [1, 0] * 4
    assert forward[0]["image"] == str(tmp_path / "0.png")


def test_a_fold_is_held_out(tmp_path: Path) -> None:
    path = write_images(tmp_path)
    manifest = load_manifest(path)
    cases = tuple(case.model_copy(update={"fold": number % 4}) for number, case in enumerate(manifest.training))
    save_manifest(path, manifest.model_copy(update={"training": cases}))
    held_out = validation_images(manifest=str(path), class_names=NAMES, fold=1)
    assert [case["case_id"] for case in held_out] == ["image_1", "image_5"]
    assert len(training_images(manifest=str(path), class_names=NAMES, fold=1)) == 6
    assert len(validation_images(manifest=str(path), class_names=NAMES)) == 4


def test_a_class_that_the_network_lacks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="class_names"):
        training_images(manifest=str(write_images(tmp_path)), class_names=["no finding", "other"])


def test_nothing_to_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no training case"):
        training_images(manifest=str(write_images(tmp_path, training=0)), class_names=NAMES)
