import dataclasses
import json
from pathlib import Path

import pytest
from studies.small_study import Deadly, Recorder, manifest, plan

from medssl.core.errors import ConfigError, TrainingError
from medssl.core.files import write_json
from medssl.data.manifest import load_manifest
from medssl.studies.run import read_results, run_study, take_results


def test_every_cell_runs_once_and_a_second_call_runs_nothing(tmp_path: Path) -> None:
    first, second = Recorder(), Recorder()
    results = run_study(plan(), manifest(), tmp_path, first.hands)
    assert len(results) == 18
    assert run_study(plan(), manifest(), tmp_path, second.hands) == results
    assert second.ran == []


def test_arms_that_are_not_run_now_stay_in_the_results(tmp_path: Path) -> None:
    before = run_study(plan(), manifest(), tmp_path, Recorder().hands, only=["better"])
    recorder = Recorder()
    together = run_study(plan(), manifest(), tmp_path, recorder.hands, only=["plain"])
    assert {each["arm"] for each in together} == {"plain", "better"}
    assert all(each in together for each in before)
    assert not any(key.startswith("better") for key in recorder.ran)


def test_each_run_sees_the_labels_of_its_draw_only(tmp_path: Path) -> None:
    run_study(plan(), manifest(), tmp_path, Recorder().hands)
    seen = load_manifest(tmp_path / "runs" / "plain" / "labelled2_draw1_seed0" / "manifest.json")
    assert [case.id for case in seen.training] == ["t1", "t2"]
    assert [case.label for case in seen.unlabeled] == [None] * 4
    assert len(seen.test) == 5


def test_ensemble_is_fused_from_members_that_are_kept(tmp_path: Path) -> None:
    recorder = Recorder()
    run_study(plan(), manifest(), tmp_path, recorder.hands, only=["plain_three"])
    assert recorder.ran.count("fuse 3") == 6
    again = Recorder()
    (tmp_path / "runs" / "plain_three" / "labelled1_draw0_seed0" / "result.json").unlink()
    run_study(plan(), manifest(), tmp_path, again.hands, only=["plain_three"])
    assert again.ran == ["fuse 3"]


def test_members_of_an_ensemble_run_again_when_the_plan_changes(tmp_path: Path) -> None:
    run_study(plan(), manifest(), tmp_path, Recorder().hands, only=["plain_three"])
    again = Recorder()
    run_study(plan(budget=240), manifest(), tmp_path, again.hands, only=["plain_three"])
    assert len(again.ran) == 6 * (3 + 1)


def test_ensemble_costs_what_its_members_cost(tmp_path: Path) -> None:
    run_study(plan(), manifest(), tmp_path, Recorder().hands, only=["plain_three"])
    for path in (tmp_path / "runs" / "plain_three_members").glob("*/result.json"):
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"seconds": 10.0}), encoding="utf-8")
    for path in (tmp_path / "runs" / "plain_three").glob("*/result.json"):
        path.unlink()
    (first, *_) = run_study(plan(), manifest(), tmp_path, Recorder().hands, only=["plain_three"])
    assert 30 <= first["seconds"] < 40


def test_seconds_of_a_resumed_run_are_those_of_all_its_parts(tmp_path: Path) -> None:
    recorder = Recorder()
    recorder.earlier["plain"] = 1000.0
    results = run_study(plan(), manifest(), tmp_path, recorder.hands, only=["plain", "better"])
    assert all((each["seconds"] >= 1000) == (each["arm"] == "plain") for each in results)


def test_patches_of_an_ensemble_are_those_of_its_members(tmp_path: Path) -> None:
    results = run_study(plan(), manifest(), tmp_path, Recorder().hands)
    assert {each["arm"]: each["patches"] for each in results} == {"plain": 100, "better": 100, "plain_three": 300}


def test_every_run_tells_its_voxel_size_and_machine(tmp_path: Path) -> None:
    results = run_study(plan(arms=_with_views()), manifest(), tmp_path, Recorder().hands)
    assert [each["spacing_mm"] for each in results] == [[1.0, 1.0, 2.0]] * 24
    assert {each["machine"] for each in results} == {"CPU, float32"}


def test_patches_that_were_not_counted_are_not_told(tmp_path: Path) -> None:
    hands = dataclasses.replace(Recorder().hands, spent=None)
    assert not [each for each in run_study(plan(), manifest(), tmp_path, hands) if "patches" in each]


def test_failed_run_is_told_and_tried_again(tmp_path: Path) -> None:
    results = run_study(plan(), manifest(), tmp_path, Recorder(fail="better").hands)
    assert [each["error"] for each in results if "error" in each] == ["planted"] * 6
    again = Recorder()
    run_study(plan(), manifest(), tmp_path, again.hands)
    assert len(again.ran) == 6


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("CUDA out of memory. Tried 2 GiB"), "RuntimeError: CUDA out of memory. Tried 2 GiB"),
        (MemoryError(), "MemoryError"),
        (OSError(5, "Input/output error", "/home/someone/DOE_JANE.nii"), "OSError: Input/output error"),
        (ValueError("cannot read '/home/someone/DOE JANE.nii' of 1/2"), "ValueError: cannot read (a path) of 1/2"),
        (
            RuntimeError("Caught KeyError in worker\nTraceback:\n  File '/home/someone/a.py'\nKeyError: 7\n"),
            "RuntimeError: KeyError: 7",
        ),
    ],
)
def test_a_run_that_fails_for_any_reason_is_recorded_and_the_others_run(tmp_path: Path, error, told: str) -> None:
    results = run_study(plan(), manifest(), tmp_path, Recorder(fail="better", error=error).hands)
    assert len(results) == 18
    assert {each["error"] for each in results if "error" in each} == {told}


def test_an_error_of_medssl_is_told_without_the_paths_in_it(tmp_path: Path) -> None:
    error = TrainingError("network: cannot be made (FileNotFoundError: '/archive/Doe/x.pt').")
    results = run_study(plan(), manifest(), tmp_path, Recorder(fail="better", error=error).hands, only=["better"])
    assert {each["error"].partition(" (")[2] for each in results} == {"FileNotFoundError: (a path))."}


def test_the_error_that_a_library_wrapped_is_told(tmp_path: Path) -> None:
    error = RuntimeError("applying transform")
    error.__cause__ = ConfigError("case t1: too small")
    results = run_study(plan(), manifest(), tmp_path, Recorder(fail="better", error=error).hands)
    assert {each["error"] for each in results if "error" in each} == {"case t1: too small"}


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(143)])
def test_who_stops_a_study_ends_it(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)):
        run_study(plan(), manifest(), tmp_path, Recorder(fail="better", error=error).hands)


def test_a_pretraining_whose_stages_were_changed_is_made_again(tmp_path: Path) -> None:
    arm = {"name": "plain", "bundle": "b", "pretrain": {"iterations": 10}}
    for number in (1, 2):
        recorder = Recorder()
        recipes = {"plain": {"training": "1", "pretraining": str(number)}}
        run_study(plan(arms=[arm], ensemble_baseline=None, recipes=recipes), manifest(), tmp_path, recorder.hands)
        assert recorder.ran.count("pretrain b") == 1
        assert len(recorder.ran) == 7


def test_case_that_failed_counts_as_zero(tmp_path: Path) -> None:
    recorder = Recorder()
    hands = recorder.hands

    def execute(run, file, folder):
        found = recorder.execute(run, file, folder)
        found["failed"] = [{"id": found["cases"].pop()["id"]}]
        return found

    run_study(
        plan(), manifest(), tmp_path, type(hands)(execute=execute, fuse=hands.fuse, part=hands.part), only=["plain"]
    )
    result = json.loads((tmp_path / "runs" / "plain" / "labelled1_draw0_seed0" / "result.json").read_text())
    assert result["dice"]["v4"]["mean"] == 0.0


def test_results_can_be_read_while_the_study_runs(tmp_path: Path) -> None:
    run_study(plan(), manifest(), tmp_path, Recorder().hands, only=["plain"])
    assert {each["arm"] for each in read_results(plan(), manifest(), tmp_path)} == {"plain"}


def test_an_unknown_arm_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='Did you mean "better"'):
        run_study(plan(), manifest(), tmp_path, Recorder().hands, only=["bettre"])


def _kept(folder: Path) -> Path:
    results = run_study(plan(), manifest(), folder / "there", Recorder().hands, only=["plain"])
    path = folder / "study.json"
    path.write_text(json.dumps({"runs": results}), encoding="utf-8")
    return path


def test_runs_of_a_study_made_elsewhere_are_not_run_again(tmp_path: Path) -> None:
    assert take_results(plan(), manifest(), tmp_path / "here", _kept(tmp_path)) == 6
    recorder = Recorder()
    run_study(plan(), manifest(), tmp_path / "here", recorder.hands)
    assert not [key for key in recorder.ran if key.startswith("plain/")]


def test_results_of_a_bundle_that_was_changed_are_not_taken(tmp_path: Path) -> None:
    old, new = plan(recipes={"better": {"training": "1"}}), plan(recipes={"better": {"training": "2"}})
    results = run_study(old, manifest(), tmp_path / "one", Recorder().hands)
    (tmp_path / "study.json").write_text(json.dumps({"runs": results}), encoding="utf-8")
    assert take_results(new, manifest(), tmp_path / "two", tmp_path / "study.json") == 12
    assert take_results(old, manifest(), tmp_path / "three", tmp_path / "study.json") == 18


def test_results_of_another_plan_are_not_taken(tmp_path: Path) -> None:
    assert take_results(plan(budget=240), manifest(), tmp_path / "here", _kept(tmp_path)) == 0


def test_file_that_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected the study\.json"):
        take_results(plan(), manifest(), tmp_path, tmp_path / "missing.json")


def _with_views() -> list[dict]:
    arms = plan().model_dump()["arms"]
    return [*arms, {"name": "better_single", "single_views_of": "better"}]


def test_single_views_are_those_of_the_trained_arm_and_are_averaged(tmp_path: Path) -> None:
    recorder = Recorder()
    changed = plan(arms=_with_views())
    results = run_study(changed, manifest(), tmp_path, recorder.hands, only=["better", "better_single"])
    assert len([key for key in recorder.ran if key.startswith("better/")]) == 6
    assert recorder.ran.count("views of better") == 6
    single = next(each for each in results if each["arm"] == "better_single")
    assert single["dice"]["v1"]["mean"] == pytest.approx(0.61)
    assert single["iterations"] == 25


def test_views_of_a_run_whose_result_was_taken_are_those_of_a_network_trained_here(tmp_path: Path) -> None:
    kept = run_study(plan(), manifest(), tmp_path / "there", Recorder().hands)
    write_json(
        tmp_path / "study.json", {"runs": [each | {"seconds": 9999.0} for each in kept if each["arm"] == "better"]}
    )
    changed = plan(arms=_with_views())
    assert take_results(changed, manifest(), tmp_path / "here", tmp_path / "study.json") == 6
    recorder = Recorder()
    (taken,) = {
        each["seconds"] for each in run_study(changed, manifest(), tmp_path / "here", recorder.hands, only=["better"])
    }
    assert (recorder.ran, taken) == ([], 9999.0)
    results = run_study(changed, manifest(), tmp_path / "here", recorder.hands)
    assert len([key for key in recorder.ran if key.startswith("better/")]) == 6
    assert not [each for each in results if "error" in each or "taken" in each or each["seconds"] == 9999.0]
    assert read_results(changed, manifest(), tmp_path / "here") == results


def test_a_new_kind_of_arm_leaves_finished_runs_alone(tmp_path: Path) -> None:
    run_study(plan(), manifest(), tmp_path, Recorder().hands, only=["better"])
    again = Recorder()
    run_study(plan(arms=_with_views()), manifest(), tmp_path, again.hands, only=["better"])
    assert again.ran == []


_PRETRAINED = {"name": "pretrained", "bundle": "b", "pretrain": {"iterations": 50}}


def test_one_pretraining_is_shared_by_all_runs_of_its_arms(tmp_path: Path) -> None:
    recorder = Recorder()
    arms = [{"name": "plain", "bundle": "b"}, _PRETRAINED, {**_PRETRAINED, "name": "also", "set": {"x": 1}}]
    content = plan(arms=arms, ensemble_baseline=None)
    results = run_study(content, manifest(), tmp_path, recorder.hands)
    assert recorder.ran.count("pretrain b") == 1
    assert [("pretraining_seconds" in each) for each in results if each["arm"] != "plain"] == [True] * 12
    assert recorder.started == [str(each.resolve()) for each in (tmp_path / "pretraining").glob("*/bundle")] * 12


def test_a_pretraining_sees_no_label(tmp_path: Path) -> None:
    arms = [{"name": "plain", "bundle": "b"}, _PRETRAINED]
    run_study(plan(arms=arms, ensemble_baseline=None), manifest(), tmp_path, Recorder().hands)
    (file,) = (tmp_path / "pretraining").glob("*/manifest.json")
    seen = load_manifest(file)
    assert (len(seen.training), [case.label for case in seen.unlabeled]) == (0, [None] * 6)


def test_another_pretraining_is_another_run(tmp_path: Path) -> None:
    arms = [{"name": "plain", "bundle": "b"}, _PRETRAINED]
    run_study(plan(arms=arms, ensemble_baseline=None), manifest(), tmp_path, Recorder().hands)
    again = Recorder()
    longer = {**_PRETRAINED, "pretrain": {"iterations": 100}}
    run_study(plan(arms=[arms[0], longer], ensemble_baseline=None), manifest(), tmp_path, again.hands)
    assert len(again.ran) == 1 + 6


def test_processes_beside_each_other_give_what_one_gives(tmp_path: Path) -> None:
    arms = [*_with_views(), {**plan().arms[0].to_json(), "name": "started", "pretrain": {"iterations": 5}}]
    whole = plan(arms=arms)
    together = run_study(whole, manifest(), tmp_path / "two", Recorder().hands, workers=2)
    alone = run_study(whole, manifest(), tmp_path / "one", Recorder().hands)
    times = {"seconds", "pretraining_seconds"}
    assert [_without(each, times) for each in together] == [_without(each, times) for each in alone]
    assert read_results(whole, manifest(), tmp_path / "two") == together


def test_a_process_that_dies_takes_its_own_run_only(tmp_path: Path) -> None:
    one_draw = plan(draws={"1": [["t0"]]})
    results = run_study(one_draw, manifest(), tmp_path, Deadly(fail="better").hands, workers=2)
    assert ["error" in each for each in results] == [False, True, False]
    assert "found that it died" in results[1]["error"]


def _without(result: dict, keys: set[str]) -> dict:
    return {key: value for key, value in result.items() if key not in keys}


@pytest.mark.parametrize("runs", [[1], [None], [{"sha256": []}], [{"sha256": "a", "dice": None}]])
def test_what_is_no_result_is_not_taken(tmp_path: Path, runs: list) -> None:
    write_json(tmp_path / "other.json", {"runs": runs})
    assert take_results(plan(), manifest(), tmp_path, tmp_path / "other.json") == 0


def test_an_error_is_told_without_the_names_of_files(tmp_path: Path) -> None:
    recorder = Recorder(fail="plain", error=ValueError("t0.nii.gz and v1_label.nii.gz: broken"))
    results = run_study(plan(), manifest(), tmp_path, recorder.hands)
    assert "ValueError: (a file) and (a file): broken" in {each.get("error") for each in results}
