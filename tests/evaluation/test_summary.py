"""Ordinals of groups and the JSON form."""

import json

from medssl.evaluation.summary import Evaluation, ordinal_groups


def test_groups_become_ordinals_in_order_of_appearance():
    assert ordinal_groups(["Roe", "Doe", "Roe"]) == ["g001", "g002", "g001"]


def test_an_evaluation_without_cases_is_valid_json_that_evaluates_nothing():
    content = Evaluation(labels={"1": "a"}, tolerance_mm=1.0, seed=0, cases=()).to_json()
    json.dumps(content, allow_nan=False)
    assert content["summary"]["a"]["evaluated"] is False
    assert content["summary"]["mean"]["dice"]["n"] == 0
