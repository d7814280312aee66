"""The score section: worst first, undefined values said, counts and intervals shown."""

from __future__ import annotations

from functools import partial

import pytest

from medssl.reports import scores
from medssl.reports.scores import MOST_CASES, case_dice, ranked_cases

summarise_scores = partial(scores.summarise_scores, source="scores")


def _case(name, *values):
    states = {None: "absent", 0.0: "missed"}
    classes = {f"s{i}": {"dice": v, "state": states.get(v, "both")} for i, v in enumerate(values)}
    return {"id": name, "group": "g001", "classes": classes}


def _metrics(*cases, low=0.5):
    dice = {"mean": 0.7, "low": low, "high": None if low is None else 0.9, "n": 2}
    volume = {"mean": -1.5, "low": -2.0, "high": 1.0, "n": 2}
    counts = {"both": 1, "missed": 2, "false": 3, "absent": 4}
    structure = {"dice": dice, "volume_error_ml": volume, "counts": counts}
    return {
        "cases": list(cases),
        "summary": {"s0": structure, "mean": {"dice": dice}},
        "policy": "P",
        "tolerance_mm": 2,
    }


def test_mean_leaves_undefined_structures_out():
    assert case_dice(_case("a", 0.5, None, 0.9)) == pytest.approx(0.7)
    assert case_dice(_case("a", None)) is None


def test_worst_case_comes_first_and_undefined_last():
    cases = [_case("none", None), _case("good", 0.9), _case("bad", 0.0), _case("also good", 0.9)]
    assert [case["id"] for case in ranked_cases(_metrics(*cases))] == ["bad", "also good", "good", "none"]


def test_row_shows_mean_interval_and_counts():
    row = summarise_scores(_metrics(_case("a", 0.7))).rows[0]
    assert row.measures == (("0.700", "0.500 to 0.900"), ("\N{MINUS SIGN}1.50", "\N{MINUS SIGN}2.00 to +1.00"))
    assert row.counts == ("1", "2", "3", "4")


def test_measures_that_were_not_computed_have_no_column():
    assert summarise_scores(_metrics(_case("a", 0.7))).headings == ("Dice", "Volume error (ml)")


def test_state_stands_beside_a_missed_structure():
    assert summarise_scores(_metrics(_case("a", 0.0))).cases[0].classes == ("0.000 (missed)",)
    assert summarise_scores(_metrics(_case("a", None))).cases[0].classes == ("– (absent)",)


def test_missing_interval_is_said():
    few = summarise_scores(_metrics(_case("a", 0.7), low=None))
    assert few.without_interval and few.mean_interval is None and few.rows[0].measures[0] == ("0.700", "")
    assert not summarise_scores(_metrics(_case("a", 0.7))).without_interval


def test_long_tables_are_cut_at_the_good_end():
    summary = summarise_scores(_metrics(*(_case(f"{n:03d}", n / 100) for n in range(MOST_CASES + 5))))
    assert (len(summary.cases), summary.number_of_cases, summary.cases[0].id) == (MOST_CASES, MOST_CASES + 5, "000")


def test_without_cases_there_is_no_figure():
    assert summarise_scores(_metrics()).figure is None


def test_source_of_the_scores_is_kept():
    assert scores.summarise_scores(_metrics(), source="scores (prostate, test)").source == "scores (prostate, test)"
