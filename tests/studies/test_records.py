"""A run's folder is of one plan, one bundle and one dataset: what is of another is neither shown nor lost."""

from pathlib import Path

from studies.small_study import Recorder, manifest, plan

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
