from pathlib import Path
from typing import Any

from medssl.bundle.checks.consumers import deploy, label
from medssl.bundle.checks.subject import Subject
from medssl.core.quiet import quiet


def found(check: Any, bundle: Path) -> list[str]:
    with quiet():
        return [each.text for each in check(Subject(bundle))]


def test_sound_bundle_serves_label_and_deploy(runnable: Path) -> None:
    assert found(label, runnable) == []
    assert found(deploy, runnable) == []


def test_unnamed_background_is_offered_as_a_structure_by_label(runnable: Path, edit: Any) -> None:
    edit("metadata", {"network_data_format#outputs#pred#channel_def#0": "outside"})
    assert any("not called background" in text for text in found(label, runnable))


def test_names_that_differ_in_case_only_are_one_label(runnable: Path, edit: Any) -> None:
    edit("metadata", {"network_data_format#outputs#pred#channel_def#2": "Anterior"})
    assert any("one name" in text for text in found(label, runnable))


def test_probabilities_are_no_label_map_for_either_host(runnable: Path, edit: Any) -> None:
    edit("inference", {"postprocessing#transforms#2": None})
    for check in (label, deploy):
        assert any("expected a label map" in text for text in found(check, runnable))


def test_result_on_the_working_grid_is_refused(runnable: Path, edit: Any) -> None:
    edit("inference", {"postprocessing#transforms#1": None, "resample_to_spacing": [2.0, 2.0, 2.0]})
    assert any("the label map has the shape" in text for text in found(deploy, runnable))


def test_deploy_needs_a_map_transform_behind_the_reader(runnable: Path, edit: Any) -> None:
    edit("inference", {"preprocessing#transforms#1": {"_target_": "EnsureChannelFirst"}})
    assert any("not a map transform" in text for text in found(deploy, runnable))


def test_training_that_needs_more_than_pairs_breaks_label(runnable: Path, edit: Any) -> None:
    keys = {"train#preprocessing#transforms#0#keys": ["image", "label", "case_id"]}
    edit("train", keys)
    assert any("training as MONAI Label starts it fails" in text for text in found(label, runnable))
