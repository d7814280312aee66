"""The order of cases by uncertainty, and what is said of its worth."""

from __future__ import annotations

import json

from reports.structure import Structure

from medssl.reports.build import write_report
from medssl.reports.uncertainty import summarise_uncertainty


def run(values: dict[str, float]) -> dict:
    cases = [{"id": name, "uncertainty": {"disagreement": u, "variance": u / 10}} for name, u in values.items()]
    return {"cases": [*cases, {"id": "failed", "state": "failed"}]}


def metrics(values: dict[str, float]) -> dict:
    return {"cases": [{"id": name, "mean": {"dice": dice}} for name, dice in values.items()]}


def test_most_uncertain_case_comes_first_with_its_dice() -> None:
    found = summarise_uncertainty(run({"a": 0.1, "b": 0.3}), [metrics({"b": 0.5})], source="s")
    assert [(case.id, case.dice) for case in found.cases] == [("b", "0.500"), ("a", "")]
    assert found.number_of_cases == 2


def test_perfect_order_has_a_correlation_of_minus_one() -> None:
    names = "abcdef"
    uncertainty = {name: number / 10 for number, name in enumerate(names)}
    dice = {name: 0.9 - number / 10 for number, name in enumerate(names)}
    found = summarise_uncertainty(run(uncertainty), [metrics(dice)], source="s")
    assert "over 6 scored cases: disagreement -1.00, variance -1.00" in found.correlation


def test_cases_of_one_network_without_disagreement_are_sorted_by_variance() -> None:
    batch = run({name: number / 10 for number, name in enumerate("abcdef")})
    for case in batch["cases"][:-1]:
        case["uncertainty"]["disagreement"] = 0.0
    dice = metrics({name: 0.9 - number / 10 for number, name in enumerate("abcdef")})
    found = summarise_uncertainty(batch, [dice], source="s")
    assert found.sorted_by == "variance"
    assert [case.id for case in found.cases] == list("fedcba")
    assert "over 6 scored cases: variance -1.00;" in found.correlation


def test_few_scored_cases_are_not_correlated() -> None:
    found = summarise_uncertainty(run({"a": 0.1, "b": 0.3}), [metrics({"b": 0.5})], source="s")
    assert found.correlation.startswith("1 of these cases are scored")


def test_equal_values_are_not_correlated() -> None:
    names = "abcdef"
    found = summarise_uncertainty(
        run(dict.fromkeys(names, 0.1)), [metrics({name: 0.1 * i for i, name in enumerate(names)})], source="s"
    )
    assert "cannot be compared" in found.correlation


def test_batch_without_uncertainty_has_no_section() -> None:
    assert summarise_uncertainty({"cases": [{"id": "a", "state": "done"}]}, [], source="s") is None


def test_report_puts_uncertain_cases_before_the_pictures(study, tmp_path) -> None:
    path = study["predictions"] / "run.json"
    content = json.loads(path.read_text())
    for number, case in enumerate(content["cases"]):
        case["uncertainty"] = {"disagreement": 0.1 * number, "variance": 0.01}
    (tmp_path / "run.json").write_text(json.dumps(content))
    write_report([tmp_path], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert page.index("Look at these first") < page.index('id="cases"')
    assert Structure(page).problems() == []
