"""What is told below a table of a study, and how its cells are written."""

from dataclasses import replace

from studies.small_study import Recorder, manifest, plan, row

from medssl.studies.run import run_study
from medssl.studies.summary import BOOTSTRAP, Row, _with_holm, summarise
from medssl.studies.tables import markdown, notes, table


def test_table_names_arms_intervals_and_their_meaning(rows: list[Row]) -> None:
    text = markdown(rows, notes(plan(), rows, ()))
    assert "| 1 | better | 0.6900 [" in text
    assert "draws of labelled cases and patients" in text


def _sentences(tmp_path, patches: int) -> str:
    results = [each | {"patches": patches} for each in run_study(plan(), manifest(), tmp_path, Recorder().hands)]
    rows = summarise(plan(), results)
    return markdown(rows, notes(plan(), rows, results))


def test_arms_beside_the_budget_are_told_with_what_they_passed(tmp_path) -> None:
    text = _sentences(tmp_path, 240)
    assert "better with 1 label passed 240 patches forward and back: 100.0% more than its budget of 120." in text
    assert "better with 2 labels passed" in text


def test_arms_within_two_percent_of_the_budget_are_not_told(tmp_path) -> None:
    assert "budget" not in _sentences(tmp_path, 118)


def test_arms_that_lack_runs_are_told(tmp_path) -> None:
    results = run_study(plan(), manifest(), tmp_path, Recorder().hands)
    rows = summarise(plan(), results)
    assert "missing or failed" not in markdown(rows, notes(plan(), rows, results))
    first = next(each for each in results if each["arm"] == "better")
    failed = {key: value for key, value in first.items() if key != "dice"} | {"error": "no memory"}
    kept = [failed if each is first else each for each in results]
    text = markdown(summarise(plan(), kept), notes(plan(), rows, kept))
    number = sum((run.arm.name, run.labelled) == ("better", first["labelled"]) for run in plan().runs())
    assert f"better with {first['labelled']} label: {number - 1} of {number} runs." in text


def test_one_label_is_no_labels(rows: list[Row]) -> None:
    better = row(rows, "better", 1)
    between = replace(better, dice=replace(better.dice, mean=0.62))
    rows = [*rows[:1], between, *rows[3:]]
    assert "better with 1 label equals plain with about 1." in markdown(rows, notes(plan(), rows, ()))


def test_a_p_value_below_what_resampling_resolves_is_a_bound(rows: list[Row]) -> None:
    better = row(rows, "better", 1)
    tested = [replace(better, difference=replace(better.difference, p=p)) for p in (1 / BOOTSTRAP, 0.02)]
    assert [line[5] for line in table(_with_holm(tested))] == ["< 0.0005", "0.02"]
