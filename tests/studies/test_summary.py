from dataclasses import replace

import numpy as np
import pytest
from studies.small_study import Recorder, manifest, plan

from medssl.studies.summary import Row, contrast, estimate, labels_saved, markdown, notes, summarise, table


@pytest.fixture
def rows(tmp_path) -> list[Row]:
    from medssl.studies.run import run_study

    return summarise(plan(), run_study(plan(), manifest(), tmp_path, Recorder().hands))


def row(rows: list[Row], arm: str, labelled: int) -> Row:
    return next(each for each in rows if (each.arm, each.labelled) == (arm, labelled))


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


def test_holm_multiplies_the_smallest_p_by_the_number_of_contrasts(rows: list[Row]) -> None:
    tested = [each for each in rows if each.p_holm is not None]
    assert len(tested) == 2
    assert tested[0].p_holm == pytest.approx(2 * tested[0].difference.p)


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
    assert estimate(np.zeros((4, 5)), paired=True).p == 1.0


def test_labels_saved_are_read_off_the_baseline(rows: list[Row]) -> None:
    saved = labels_saved(rows, "plain")
    assert saved["plain_three"][1] is None  # 0.72 lies above what the baseline was measured at
    assert saved["better"][1] is None
    assert labels_saved(rows, "better")["plain"][2] is None


def test_labels_saved_interpolates_between_measured_counts(rows: list[Row]) -> None:
    three = [row(rows, "plain", 1), row(rows, "plain", 2), row(rows, "better", 1)]
    levels = (0.6, 0.8, 0.7)
    half = [Row(**{**vars(r), "dice": estimate(np.full((3, 4), dice))}) for r, dice in zip(three, levels, strict=True)]
    assert labels_saved(half, "plain")["better"][1] == pytest.approx(2**0.5)


def test_table_names_arms_intervals_and_their_meaning(rows: list[Row]) -> None:
    text = markdown(rows, notes(plan(), rows))
    assert "| 1 | better | 0.6900 [" in text
    assert "draws of labelled cases are resampled first" in text


def _sentences(tmp_path, patches: int) -> str:
    from medssl.studies.run import run_study

    results = [each | {"patches": patches} for each in run_study(plan(), manifest(), tmp_path, Recorder().hands)]
    rows = summarise(plan(), results)
    return markdown(rows, notes(plan(), rows))


def test_arms_beside_the_budget_are_told_with_what_they_passed(tmp_path) -> None:
    text = _sentences(tmp_path, 240)
    assert "better with 1 label passed 240 patches forward and back: 100.0% more than its budget of 120." in text
    assert "better with 2 labels passed" in text


def test_arms_within_two_percent_of_the_budget_are_not_told(tmp_path) -> None:
    assert "budget" not in _sentences(tmp_path, 118)


def test_one_label_is_no_labels(rows: list[Row]) -> None:
    better = row(rows, "better", 1)
    between = replace(better, dice=replace(better.dice, mean=0.62))
    rows = [*rows[:1], between, *rows[3:]]
    assert "better with 1 label equals plain with about 1." in markdown(rows, notes(plan(), rows))


def test_seeds_take_the_place_of_draws_where_there_is_one_draw(tmp_path) -> None:
    from medssl.studies.run import run_study

    one_draw = plan(draws={"1": [["t0"]]}, seeds=[0, 1, 2])
    (found, better, _) = summarise(one_draw, run_study(one_draw, manifest(), tmp_path, Recorder().hands))
    assert (found.dice.draws, found.dice.seeds, found.per_draw) == (1, 3, (found.dice.mean,))
    assert found.dice.low < found.dice.mean < found.dice.high
    assert (better.difference.low, better.difference.high) == pytest.approx((0.1, 0.1))
    assert "| 1, 3 seeds |" in markdown([found], [])


def test_a_p_value_below_what_resampling_resolves_is_a_bound(rows: list[Row]) -> None:
    assert [line[5] for line in table(rows) if line[1] == "better"] == ["< 0.0005", "< 0.0005"]
