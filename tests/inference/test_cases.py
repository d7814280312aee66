"""Inputs of every kind become cases with unique names."""

import json

import pytest

from medssl.core.errors import ConfigError
from medssl.inference.cases import gather_cases, refuse_to_overwrite


def _touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def _ids(*inputs, **options):
    return [case.id for case in gather_cases(inputs, **options)]


def test_folders_are_searched_through(tmp_path):
    _touch(tmp_path, "b.nii.gz", "a/c.nii", "a/d.mha", "a/e.nrrd", "notes.txt", ".tmp-1-x.nii.gz")
    assert _ids(tmp_path) == ["c", "d", "e", "b"]
    assert gather_cases([tmp_path])[0].names == ("a/c.nii",)


def test_patterns_and_files_are_taken(tmp_path):
    _touch(tmp_path, "x1.nii.gz", "x2.nii.gz", "y.nii.gz")
    assert _ids(f"{tmp_path}/x*.nii.gz", str(tmp_path / "y.nii.gz")) == ["x1", "x2", "y"]


def test_a_file_named_twice_is_one_case(tmp_path):
    _touch(tmp_path, "x.nii.gz")
    assert _ids(tmp_path, tmp_path / "x.nii.gz") == ["x"]


def test_equal_names_keep_their_folders(tmp_path):
    _touch(tmp_path, "p1/t1.nii.gz", "p2/s/t1.nii.gz", "p2/other.nii.gz")
    assert _ids(tmp_path) == ["p1__t1", "other", "p2__s__t1"]


def test_equal_outputs_are_refused_up_front(tmp_path):
    _touch(tmp_path, "x.nii", "x.nii.gz")
    with pytest.raises(ConfigError, match="same output"):
        gather_cases([tmp_path])


def test_names_that_differ_by_case_only_are_told_apart(tmp_path):
    _touch(tmp_path, "a/X.nii", "b/x.nii")
    assert _ids(tmp_path) == ["a__X", "b__x"]


def test_a_case_named_like_the_probabilities_of_another_is_refused(tmp_path):
    _touch(tmp_path, "x.nii", "x_probabilities.nii")
    with pytest.raises(ConfigError, match="same output"):
        gather_cases([tmp_path])


def test_outputs_in_the_input_folder_are_no_inputs(tmp_path):
    _touch(tmp_path, "x.nii.gz", "out/x.nii.gz")
    assert _ids(tmp_path, outside=tmp_path / "out") == ["x"]


def test_a_link_that_leads_nowhere_is_a_case(tmp_path):
    (tmp_path / "lost.nii.gz").symlink_to(tmp_path / "nowhere")
    assert _ids(tmp_path) == ["lost"]


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="found none"):
        gather_cases([tmp_path])


def test_one_part_of_a_manifest_is_taken(tmp_path):
    content = {
        "name": "n",
        "modality": "MR",
        "labels": {"0": "background"},
        "training": [{"id": "a", "image": "a.nii"}],
        "test": [{"id": "b", "image": ["b1.nii", "b2.nii"]}],
    }
    (tmp_path / "m.json").write_text(json.dumps(content))
    assert _ids(tmp_path / "m.json") == ["a", "b"]
    (case,) = gather_cases([tmp_path / "m.json"], part="test", data_root=tmp_path / "data")
    assert case.paths == (tmp_path / "data" / "b1.nii", tmp_path / "data" / "b2.nii")
    with pytest.raises(ConfigError, match="--part"):
        gather_cases([tmp_path / "m.json"], part="tests")


@pytest.mark.parametrize("name", ["x.nii.gz", "link.nii.gz"])
def test_an_output_never_takes_the_place_of_an_image(tmp_path, name):
    _touch(tmp_path, "x.nii.gz", "run.json")  # also where a run wrote before, and through another name of the folder
    (tmp_path / "link.nii.gz").symlink_to("x.nii.gz")
    cases = gather_cases([tmp_path / name])
    with pytest.raises(ConfigError, match=f"{name} would take the place of an image"):
        refuse_to_overwrite(cases, tmp_path, replace=True)


def test_label_maps_that_no_run_wrote_are_kept(tmp_path):
    _touch(tmp_path, "images/x.nii.gz", "labels/x.nii.gz")
    cases = gather_cases([tmp_path / "images"])
    with pytest.raises(ConfigError, match="a file that no run"):
        refuse_to_overwrite(cases, tmp_path / "labels")
    refuse_to_overwrite(cases, tmp_path / "labels", replace=True)
    _touch(tmp_path, "labels/run.json")
    refuse_to_overwrite(cases, tmp_path / "labels")
