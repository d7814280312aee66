"""The page opens offline, hides nothing and shows no one."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from medssl.core.errors import ConfigError
from medssl.reports.build import write_report

SECTIONS = ("scores", "cases", "findings", "dataset", "training", "times", "versions")


class _Page(HTMLParser):
    """Collect tags with their attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def named(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


@pytest.fixture(scope="module")
def written(study, tmp_path_factory) -> str:
    out = tmp_path_factory.mktemp("report") / "report.html"
    assert write_report(list(study.values()), out, title="A & B", worst=1) == []
    return out.read_text()


@pytest.fixture(scope="module")
def page(written) -> _Page:
    return _Page(written)


def test_nothing_is_loaded_from_elsewhere(page, written):
    assert not page.named("script") and not page.named("link") and not page.named("iframe")
    assert all(str(image["src"]).startswith("data:image/") for image in page.named("img"))
    assert all(str(link["href"]).startswith("#") for link in page.named("a"))
    without_data = re.sub(r"data:image/[^\"]*", "", written)
    assert "http" not in without_data.replace("http-equiv", "") and "url(" not in without_data


def test_html_in_a_case_name_does_not_run(page, written):
    assert "<script" not in written
    assert "<script>alert('$x$')</script>" in page.text


def test_every_section_is_there_and_linked(page):
    assert [heading.get("id") for heading in page.named("h2")] == list(SECTIONS)
    assert {link["href"] for link in page.named("a")} == {f"#{section}" for section in SECTIONS}


def test_tables_have_captions_and_scopes(page):
    assert len(page.named("caption")) == len(page.named("table")) > 6
    assert all(cell.get("scope") in {"row", "col"} for cell in page.named("th"))


def test_images_have_words_beside_them(page):
    assert len(page.named("img")) == 8  # scores, three cases, four curves
    assert all(image.get("alt") for image in page.named("img"))


def test_policy_interval_failed_case_and_hashes_are_shown(page):
    for text in ("A missed structure counts as Dice 0", "95% interval", "truncated", "resend", "ab" * 32, "ef" * 32):
        assert text in page.text


def test_no_patient_path_or_file_name_of_an_input_is_shown(page, study):
    assert "DOE" not in page.text
    assert str(study["manifest"].parent) not in page.text


def test_missing_parts_are_said(study, tmp_path):
    write_report([study["metrics"]], tmp_path / "r.html")
    text = _Page((tmp_path / "r.html").read_text()).text
    assert text.count("Not given:") == 4  # cases, dataset, training, times
    assert "no manifest among the sources" in text
    write_report([study["run"]], tmp_path / "r.html")
    text = _Page((tmp_path / "r.html").read_text()).text
    assert text.count("Not given:") == 4 and "None: no failed case" in text


def test_findings_of_check_and_evaluate_are_listed_errors_first(study, tmp_path):
    findings = [
        {"code": "near-duplicate", "severity": "warning", "text": "looks alike", "fix": "look"},
        {"code": "label-affine", "severity": "error", "case": "a", "text": "is moved", "fix": "export again"},
    ]
    (tmp_path / "check.json").write_text(json.dumps({"cases": 2, "findings": findings}))
    write_report([tmp_path / "check.json"], tmp_path / "r.html")
    text = _Page((tmp_path / "r.html").read_text()).text
    assert text.index("is moved") < text.index("looks alike")


@pytest.mark.parametrize("change", [{"summary": []}, {"cases": [{"id": "a", "classes": 3}]}, {"cases": ["a"]}])
def test_unexpected_layout_is_an_error_that_names_the_file(study, tmp_path, change):
    metrics = json.loads((study["metrics"] / "metrics.json").read_text())
    (tmp_path / "metrics.json").write_text(json.dumps({**metrics, **change}))
    with pytest.raises(ConfigError, match=r"metrics\.json: one of these"):
        write_report([tmp_path / "metrics.json"], tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()


def test_no_source_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="at least one source"):
        write_report([], tmp_path / "r.html")
