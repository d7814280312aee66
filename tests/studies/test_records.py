"""A run's folder is of one plan, one bundle and one dataset: what is of another is neither shown nor lost."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from studies.small_study import Recorder, manifest, plan

from medssl.core.errors import ConfigError
from medssl.core.files import sole_writer
from medssl.studies.records import begin_record
from medssl.studies.run import read_results, run_study


def test_runs_of_a_bundle_that_was_changed_are_neither_shown_nor_continued(tmp_path: Path) -> None:
    old, new = plan(recipes={"plain": {"training": "1"}}), plan(recipes={"plain": {"training": "2"}})
    run_study(old, manifest(), tmp_path, Recorder().hands)
    again = Recorder()
    results = run_study(new, manifest(), tmp_path, again.hands)
    assert len([key for key in again.ran if key.startswith("plain/")]) == 6
    assert len([key for key in again.ran if key.startswith("plain_three_members/")]) == 18
    assert not any(key.startswith("better") for key in again.ran)
    assert {each["recipe"]["training"] for each in results if each["arm"] != "better"} == {"2"}
    assert (tmp_path / "runs" / "plain" / "labelled1_draw0_seed0_before1").is_dir()


def test_tables_are_made_of_what_is_there_also_without_the_bundles(tmp_path: Path) -> None:
    results = run_study(plan(recipes={"plain": {"training": "1"}}), manifest(), tmp_path, Recorder().hands)
    assert read_results(plan(), manifest(), tmp_path) == results


def test_changed_arm_runs_again(tmp_path: Path) -> None:
    run_study(plan(), manifest(), tmp_path, Recorder().hands)
    arms = plan().model_dump()["arms"]
    arms[1]["set"] = {"x": 2}
    again = Recorder()
    run_study(plan(arms=arms), manifest(), tmp_path, again.hands)
    assert {key.split("/")[0] for key in again.ran} == {"better"}


def test_members_of_another_plan_are_neither_fused_nor_lost(tmp_path: Path) -> None:
    run_study(plan(), manifest(), tmp_path, Recorder().hands, only=["plain_three"])
    again = Recorder()
    run_study(plan(budget=240), manifest(), tmp_path, again.hands, only=["plain_three"])
    assert len([key for key in again.ran if key.startswith("plain_three_members")]) == 18
    assert len(list((tmp_path / "runs" / "plain_three_members").glob("*_before1"))) == 18


def test_a_run_on_other_cases_does_not_continue_the_earlier_one(tmp_path: Path) -> None:
    one = {"draws": {"1": [["t0"]]}}
    run_study(plan(**one), manifest(), tmp_path, Recorder().hands, only=["plain"])
    folder = tmp_path / "runs" / "plain" / "labelled1_draw0_seed0"
    (folder / "last.pt").write_text("state of the run on t0")
    run_study(plan(draws={"1": [["t5"]]}), manifest(), tmp_path, Recorder().hands, only=["plain"])
    assert not (folder / "last.pt").exists()
    assert (tmp_path / "runs" / "plain" / "labelled1_draw0_seed0_before1" / "last.pt").is_file()


def test_a_damaged_result_is_made_again(tmp_path: Path) -> None:
    results = run_study(plan(), manifest(), tmp_path, Recorder().hands, only=["plain"])
    (tmp_path / "runs" / "plain" / "labelled1_draw0_seed0" / "result.json").write_text("{torn")
    again = Recorder()
    assert len(run_study(plan(), manifest(), tmp_path, again.hands, only=["plain"])) == len(results)
    assert again.ran == ["plain/labelled1_draw0_seed0"]


@pytest.mark.parametrize("scores", [None, [], {}, {"v0": 0.5}])
def test_a_result_without_scores_is_none(tmp_path: Path, scores: Any) -> None:
    results = run_study(plan(), manifest(), tmp_path, Recorder().hands)
    path = tmp_path / "runs" / "plain" / "labelled1_draw0_seed0" / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "dice": scores}))
    again = Recorder()
    assert run_study(plan(), manifest(), tmp_path, again.hands) == results
    assert len(again.ran) == 1


def test_a_run_that_another_process_trains_is_not_moved_aside(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("medssl.studies.records.sole_writer", partial(sole_writer, patience=0.0))
    folder = tmp_path / "run"
    with sole_writer(folder / "bundle"):
        with pytest.raises(ConfigError, match="another process is writing there"):
            begin_record(folder, {"sha256": "other"})
        assert (folder / "bundle").is_dir()
    begin_record(folder, {"sha256": "other"})
    assert (tmp_path / "run_before1" / "bundle").is_dir()
