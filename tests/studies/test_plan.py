import json
import re
from pathlib import Path

import pytest
from pydantic import ValidationError
from studies.small_study import content, manifest, plan

from medssl.core.errors import ConfigError
from medssl.studies.plan import load_plan


def test_budget_is_shared_by_the_patches_of_an_iteration() -> None:
    iterations = {run.arm.name: run.iterations for run in plan().runs()}
    assert iterations == {"plain": 50, "better": 25, "plain_three": 20}


def test_runs_complete_one_draw_before_the_next() -> None:
    draws = [run.draw for run in plan().runs()]
    assert draws == sorted(draws)
    assert len(draws) == 3 * 2 * 3


def test_members_of_an_ensemble_have_seeds_of_their_own() -> None:
    run = next(run for run in plan(seeds=(0, 1)).runs() if run.arm.members and run.seed == 1)
    members = plan().member_runs(run)
    assert [member.seed for member in members] == [3, 4, 5]
    assert {member.ids for member in members} == {run.ids}
    assert {member.arm.bundle for member in members} == {"b"}


def test_hash_ignores_title_and_follows_what_decides() -> None:
    assert plan().sha256() == plan(name="other").sha256()
    assert plan().sha256() != plan(budget=121).sha256()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"baseline": "plane"}, 'Did you mean "plain"'),
        ({"draws": {"2": [["t0"]]}}, "lists of 2 different case ids"),
        ({"draws": {"2": [["t0", "t0"]]}}, "lists of 2 different case ids"),
        ({"draws": {"2": [["t0", "t1"], ["t2", "t3"], ["t1", "t0"]]}}, "a draw repeats another one"),
        ({"draws": {}}, "draws: "),
        ({"draws": {"2": []}}, "draws#2: "),
        ({"seeds": []}, "seeds: "),
        ({"arms": [{"name": "plain"}]}, "expected a bundle to train, members to fuse"),
        ({"arms": [{"name": "plain", "bundle": "b"}] * 2}, "names must differ"),
        (
            {"arms": [{"name": "plain", "bundle": "b", "set": {"select_best": True}}]},
            "arm plain: set: .* no select_best",
        ),
        (
            {"arms": [{"name": "plain", "bundle": "b", "set": {"val_interval": 5}}]},
            "last checkpoint, so that the scored",
        ),
        ({"budgett": 3}, "budgett"),
        ({"part": "training"}, "part"),
    ],
)
def test_plan_that_does_not_fit_is_refused_by_name(tmp_path, changes, told) -> None:
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(content(**changes)), encoding="utf-8")
    with pytest.raises(ConfigError, match=told):
        load_plan(path)


def test_example_of_the_documentation_is_a_plan(tmp_path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "studies.md").read_text(encoding="utf-8")
    (tmp_path / "plan.json").write_text(re.findall(r"```json\n(.*?)```", text, re.DOTALL)[0], encoding="utf-8")
    iterations = {run.arm.name: run.iterations for run in load_plan(tmp_path / "plan.json").runs()}
    assert iterations == {"supervised": 1500, "supervised_three": 500, "umct": 325}


@pytest.mark.parametrize("key", ["epochs", "iterations_per_epoch", "seed"])
def test_an_arm_cannot_set_what_is_the_plans(key: str) -> None:
    arm = {"name": "plain", "bundle": "b", "set": {key: 3}}
    with pytest.raises(ValueError, match=f"expected no {key}; length and seeds are the plan's"):
        plan(arms=[arm], ensemble_baseline=None)


def test_draws_of_unknown_cases_are_refused_with_the_nearest() -> None:
    plan().require_cases(manifest())
    with pytest.raises(ConfigError, match=r"draws, 1, draw 2: .*found 't9'"):
        plan(draws={"1": [["t0"], ["t1"], ["t9"]]}).require_cases(manifest())
    with pytest.raises(ConfigError, match="found 'v0'"):
        plan(draws={"1": [["v0"]]}).require_cases(manifest())


def test_file_that_is_no_json_is_refused(tmp_path) -> None:
    (tmp_path / "plan.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="as JSON"):
        load_plan(tmp_path / "plan.json")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"budget": NaN}', '{"name": "a", "name": "b"}'])
def test_json_that_would_crash_or_lose_something_is_refused(tmp_path, text) -> None:
    (tmp_path / "plan.json").write_text(text)
    with pytest.raises(ConfigError, match="none that can be read"):
        load_plan(tmp_path / "plan.json")


def test_arms_without_pretraining_keep_the_hash_of_studies_begun_before() -> None:
    arm = plan().arms[0]
    later = {"single_views_of", "pretrain", "budget"}
    assert later.isdisjoint(arm.to_json())
    assert arm.to_json().keys() == arm.model_dump().keys() - later


def test_an_arm_may_have_a_budget_of_its_own() -> None:
    arms = [{"name": "plain", "bundle": "b", "patches_per_iteration": 2, "budget": 1000}]
    (run, *_) = plan(arms=arms, ensemble_baseline=None).runs()
    assert run.iterations == 500


def test_only_what_trains_a_bundle_can_be_pretrained() -> None:
    arms = [
        {"name": "plain", "bundle": "b"},
        {"name": "three", "members": "plain", "size": 3, "pretrain": {"iterations": 5}},
    ]
    with pytest.raises(ValueError, match="expected a bundle beside pretrain"):
        plan(arms=arms, ensemble_baseline=None)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"draws": {"01": [["t0"], ["t1"], ["t2"]]}}, "draws, 01"),
        ({"arms": [*content()["arms"], {"name": "plain_three_members", "bundle": "b"}]}, "an ensemble's own networks"),
    ],
)
def test_two_runs_never_share_a_folder(changes: dict, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        plan(**changes)
