import json
from dataclasses import replace

import numpy as np
import pytest
from studies.small_study import Recorder, manifest, plan, row

from medssl.studies.summary import (
    BOOTSTRAP,
    Row,
    _with_holm,
    contrast,
    estimate,
    labels_saved,
    summarise,
)
from medssl.studies.tables import markdown, notes


def test_mean_is_over_draws_and_cases(rows: list[Row]) -> None:
    assert row(rows, "plain", 1).dice.mean == pytest.approx(0.5 + 0.05 + 0.02 + 0.02)
    assert row(rows, "plain", 2).per_draw == pytest.approx((0.62, 0.64, 0.66))


def test_difference_is_paired_so_that_equal_gains_have_no_spread(rows: list[Row]) -> None:
    found = row(rows, "better", 1).difference
    assert (found.mean, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))


def test_ensembles_are_compared_with_ensembles(rows: list[Row]) -> None:
    assert row(rows, "better", 1).against == "plain"
    assert row(rows, "plain_three", 1).difference is None


def test_any_two_arms_can_be_contrasted(tmp_path) -> None:
    from medssl.studies.run import run_study

    runs = run_study(plan(), manifest(), tmp_path, Recorder().hands)
    there, back = contrast(runs, "better", "plain", 1), contrast(runs, "plain", "better", 1)
    assert there == row(summarise(plan(), runs), "better", 1).difference
    assert (back.mean, back.low, back.high) == pytest.approx((-there.mean, -there.high, -there.low))
    assert contrast(runs, "better", "plain", 99) is None


def test_holm_takes_the_rank_of_a_p_value_and_never_falls_below_an_earlier_one(rows: list[Row]) -> None:
    better = row(rows, "better", 1)
    tested = [replace(better, difference=replace(better.difference, p=p)) for p in (0.01, 0.04, 0.03)]
    untested = replace(better, difference=replace(better.difference, p=None))
    assert [each.p_holm for each in _with_holm([*tested, untested])] == [*map(pytest.approx, (0.03, 0.06, 0.06)), None]


def test_two_level_interval_agrees_with_a_plain_loop() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(rng.normal(0, 1, (6, 1)), 0.5, (6, 20))
    loop = []
    for _ in range(4000):
        draws, cases = rng.integers(6, size=6), rng.integers(20, size=20)
        loop.append(values[np.ix_(draws, cases)].mean())
    found = estimate(values)
    assert [found.low, found.high] == pytest.approx(np.percentile(loop, [2.5, 97.5]), abs=0.08)


def test_two_draws_have_no_interval() -> None:
    found = estimate(np.zeros((2, 9)))
    assert (found.low, found.high, found.p) == (None, None, None)


def test_difference_of_zero_has_a_p_of_one() -> None:
    assert estimate(np.zeros((6, 5)), paired=True).p == 1.0


def test_few_draws_have_no_p_and_few_patients_no_interval() -> None:
    values = np.ones((6, 4))
    assert estimate(values, paired=True).p == 1 / BOOTSTRAP
    assert (estimate(values[:5], paired=True).p, estimate(values[:5], paired=True).low) == (None, 1.0)
    assert estimate(values, groups=["a", "a", "b", "b"], paired=True).low is None


def test_scans_of_one_patient_are_resampled_together(tmp_path) -> None:
    rng = np.random.default_rng(3)
    values = np.repeat(rng.normal(0.0, 1.0, (8, 6)).mean(0, keepdims=True), 4, axis=1).repeat(8, axis=0)
    patients = [str(number) for number in range(6) for _ in range(4)]
    apart, together = estimate(values), estimate(values, groups=patients)
    assert together.high - together.low > 1.5 * (apart.high - apart.low)  # 4 scans alike: twice as wide
    one_scan_each = estimate(values[:, ::4])
    assert (together.low, together.high) == pytest.approx((one_scan_each.low, one_scan_each.high))


def test_patients_of_the_manifest_reach_the_interval_as_numbers(tmp_path) -> None:
    from medssl.studies.run import run_study

    cases = tuple(
        case.model_copy(update={"patient": f"Miller {number // 2}"}) for number, case in enumerate(manifest().test)
    )
    results = run_study(plan(), manifest().model_copy(update={"test": cases}), tmp_path, Recorder().hands)
    assert results[0]["groups"] == {"v0": 0, "v1": 0, "v2": 1, "v3": 1, "v4": 2}
    assert "Miller" not in json.dumps(results)
    plain = [{key: value for key, value in each.items() if key != "groups"} for each in results]
    wide, narrow = (row(summarise(plan(), each), "plain", 1).dice for each in (results, plain))
    assert wide.high - wide.low > narrow.high - narrow.low
    # results of an earlier version do not tell, but the manifest does
    assert row(summarise(plan(), plain, groups=results[0]["groups"]), "plain", 1).dice == wide


def test_a_case_with_nothing_to_find_and_nothing_found_is_left_out_of_every_arm(tmp_path) -> None:
    from medssl.studies.run import run_study

    results = run_study(plan(), manifest(), tmp_path, Recorder().hands)
    results[0]["dice"]["v4"]["mean"] = None  # one run of "plain" with one label
    rows = summarise(plan(), results)
    found, other = row(rows, "plain", 1), row(rows, "better", 1)
    assert (found.dice.cases, other.dice.cases, other.difference.cases, found.undefined) == (4, 4, 4, 1)
    assert found.dice.mean == pytest.approx(0.5 + 0.05 + 0.02 + 0.015)  # the mean of v0 to v3
    assert other.dice.mean - found.dice.mean == pytest.approx(other.difference.mean)
    assert row(rows, "plain", 2).dice.cases == 5
    assert "With 1 label, 1 of the scored cases left out" in markdown(rows, notes(plan(), rows, results))


def test_without_any_case_that_is_defined_there_is_no_row(tmp_path) -> None:
    from medssl.studies.run import run_study

    results = run_study(plan(), manifest(), tmp_path, Recorder().hands)
    for each in results[0]["dice"].values():
        each["mean"] = None
    rows = summarise(plan(), results)
    assert {each.labelled for each in rows} == {2}
    assert "With 1 label, no scored case has a Dice in every run." in notes(plan(), rows, results)
    assert contrast(results, "plain", "better", 1) is None


def _at(rows: list[Row], levels: dict[tuple[str, int], float]) -> list[Row]:
    """Rows of "plain" and "better" whose mean Dice is given."""
    named = {
        "plain": row(rows, "plain", 1),
        "better": row(rows, "better", 1),
        "plain_three": row(rows, "plain_three", 1),
    }
    return [
        replace(named[arm], labelled=count, dice=estimate(np.full((3, 4), dice)))
        for (arm, count), dice in levels.items()
    ]


def test_labels_saved_interpolates_between_measured_counts(rows: list[Row]) -> None:
    found = _at(rows, {("plain", 1): 0.6, ("plain", 2): 0.8, ("better", 1): 0.7, ("better", 2): 0.9})
    assert labels_saved(found) == {"better": {1: pytest.approx(2**0.5), 2: None}}


def test_labels_saved_are_read_off_the_arm_of_comparison(rows: list[Row]) -> None:
    found = _at(rows, {("plain", 1): 0.6, ("plain", 2): 0.8, ("plain_three", 1): 0.7, ("plain_three", 2): 0.9})
    fused = replace(found[0], arm="fused", against="plain_three")
    assert labels_saved([*found, replace(fused, dice=estimate(np.full((3, 4), 0.8)))])["fused"][1] == pytest.approx(
        2**0.5
    )
    assert "plain_three" not in labels_saved(found)


def test_labels_saved_at_a_measured_count_are_that_count(rows: list[Row]) -> None:
    found = _at(
        rows, {("plain", 1): 0.5, ("plain", 7): 0.6, ("plain", 29): 0.7, ("plain", 60): 0.8, ("better", 1): 0.7}
    )
    assert labels_saved(found) == {"better": {1: pytest.approx(29)}}


def test_labels_saved_are_not_read_off_a_curve_that_has_the_dice_twice(rows: list[Row]) -> None:
    found = _at(rows, {("plain", 1): 0.6, ("plain", 2): 0.8, ("plain", 4): 0.65, ("better", 1): 0.7})
    assert labels_saved(found) == {"better": {1: None}}


def test_seeds_take_the_place_of_draws_where_there_is_one_draw(tmp_path) -> None:
    from medssl.studies.run import run_study

    one_draw = plan(draws={"1": [["t0"]]}, seeds=[0, 1, 2])
    (found, better, _) = summarise(one_draw, run_study(one_draw, manifest(), tmp_path, Recorder().hands))
    assert (found.dice.draws, found.dice.seeds, found.per_draw) == (1, 3, (found.dice.mean,))
    assert found.dice.low < found.dice.mean < found.dice.high
    assert (better.difference.low, better.difference.high) == pytest.approx((0.1, 0.1))
    assert "| 1, 3 seeds |" in markdown([found], [])
