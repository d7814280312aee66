"""The detection section: numbers as they were evaluated, curves with bands, and what is not defined in words."""

import json

import pytest
from reports.detection_study import write_study
from reports.structure import Structure

from medssl.reports.build import write_report
from medssl.reports.detection import ranked_detections, summarise_detection


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return write_study(tmp_path_factory.mktemp("detections"))


@pytest.fixture(scope="module")
def metrics(sources):
    return json.loads((sources[2] / "metrics.json").read_text())


@pytest.fixture(scope="module")
def summary(metrics):
    return summarise_detection(metrics, source="scores")


@pytest.fixture(scope="module")
def page(sources, tmp_path_factory):
    out = tmp_path_factory.mktemp("report") / "report.html"
    assert write_report(sources, out, worst=1) == []
    return Structure(out.read_text())


def test_numbers_are_those_of_the_evaluation(summary):
    rows = {row.name: (row.value, row.interval) for row in summary.rows}
    assert rows["AUROC of cases"] == ("1.000", "1.000 to 1.000")
    assert rows["Average precision of lesions"][0] == "0.667"
    assert rows["Sensitivity at 0.5 false candidates a case"][0] == "0.667"
    assert dict(summary.counts)["Lesions missed"] == "1"
    assert [fold[:3] for fold in summary.folds] == [("0", "2", "1"), ("1", "2", "1"), ("2", "2", "1")]


def test_three_curves_are_drawn_with_bands_and_told_in_words(summary):
    curves = summary.curves
    assert [curve.title for curve in curves] == ["ROC", "FROC", "Precision and recall"]
    assert all(curve.image.startswith("data:image/svg+xml;base64,") for curve in curves)
    assert "FROC: share of lesions found over false candidates a case: 0.67 at 0.5" in curves[1].description
    assert all("95% interval" in curve.description for curve in curves)


def test_missed_lesions_come_first_then_confident_false_candidates(metrics):
    assert [case["id"] for case in ranked_detections(metrics)] == ["c4", "c5", "c3", "c1", "c0", "c2"]


def test_what_is_not_defined_is_said_instead_of_drawn(metrics):
    positive = [case for case in metrics["cases"] if case["positive"]]
    one = {"value": None, "low": None, "high": None, "reason": "AUROC is not defined: all are positive."}
    changed = metrics | {"cases": positive, "summary": metrics["summary"] | {"auroc": one, "score": one}}
    summary = summarise_detection(changed | {"statements": [one["reason"]]}, source="s")
    assert summary.missing_curves == ("ROC",)
    assert summary.headline == ("–", "")
    assert summary.statements == (one["reason"],)


def test_the_page_shows_detections_and_no_empty_section_of_scores(page):
    headings = [heading.get("id") for heading in page.named("h2")]
    assert headings[0] == "detection"
    assert "scores" not in headings
    text = page.elements[0]["text"]
    assert "Average precision of lesions" in text
    assert "Doe" not in text


def test_the_page_can_be_read_without_sight_mouse_or_colours(page):
    assert page.problems() == []


def test_each_kind_of_case_has_a_picture_of_all_sequences(page):
    figures = [figure for figure in page.named("figure") if figure.get("class") == "case"]
    titles = [child["text"] for figure in figures for child in figure["children"] if child["tag"] == "h3"]
    assert titles[:3] == ["Missed lesion: c4", "Most confident false candidate: c5", "Found lesion: c0"]
    assert all(str(image["src"]).startswith("data:image/") for image in page.named("img"))
