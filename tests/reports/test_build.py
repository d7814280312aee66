"""The page opens offline, hides nothing and shows no one."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from urllib.parse import unquote

import pytest
from reports.structure import Structure

from medssl.core.errors import ConfigError
from medssl.reports.build import write_report

SECTIONS = ("scores", "cases", "findings", "dataset", "training", "times", "versions")


@pytest.fixture(scope="module")
def written(study, tmp_path_factory) -> str:
    out = tmp_path_factory.mktemp("report") / "report.html"
    assert write_report(list(study.values()), out, title="A & B", worst=1) == []
    return out.read_text()


@pytest.fixture(scope="module")
def page(written) -> Structure:
    return Structure(written)


def test_nothing_is_loaded_from_elsewhere(page, written):
    assert not page.named("script") and not page.named("link") and not page.named("iframe")
    assert all(str(image["src"]).startswith("data:image/") for image in page.named("img"))
    assert all(str(link["href"]).startswith("#") for link in page.named("a"))
    without_data = re.sub(r"data:image/[^\"]*", "", written)
    assert "http" not in without_data.replace("http-equiv", "") and "url(" not in without_data


def test_html_in_a_case_name_does_not_run(page, written):
    assert "<script" not in written
    assert "<script>alert('$x$')</script>" in page.elements[0]["text"]


def test_every_section_is_there_and_linked(page):
    assert [heading.get("id") for heading in page.named("h2")] == list(SECTIONS)
    assert {link["href"] for link in page.named("a")} == {f"#{section}" for section in (*SECTIONS, "main")}


def test_page_can_be_read_without_sight_mouse_or_colours(page):
    assert page.problems() == []
    assert len(page.named("table")) > 6 and len(page.named("img")) == 8  # scores, three cases, four curves


@pytest.mark.parametrize(
    ("good", "bad", "problem"),
    [
        ('<html lang="en">', "<html>", "html has no lang"),
        (' scope="row"', "", "th without scope"),
        ("<caption>Dice by case", "<caption></caption><p>Dice by case", "not closed"),
        ('id="cases"', 'id="scores"', "id scores 2 times"),
        ("<h3>Worst", "<h4>Worst", "skips from level 2 to 4"),
        ('alt="', 'title="', "alt text None"),
        ("</main>", "", "not closed"),
        ('href="#times"', 'href="#time"', "points to 'time'"),
    ],
)
def test_a_page_that_leaves_readers_behind_is_noticed(written, good, bad, problem):
    assert good in written
    assert any(problem in found for found in Structure(written.replace(good, bad)).problems())


def test_sections_of_several_sources_say_which_is_which(study, tmp_path):
    copies = []
    for name in ("metrics", "predictions", "run"):
        copies.append(tmp_path / "second" / name)
        shutil.copytree(study[name], copies[-1])
    write_report([*study.values(), *copies], tmp_path / "r.html", worst=0, unscored=0)
    page = Structure((tmp_path / "r.html").read_text())
    headings = [heading["text"] for heading in page.named("h3")]
    assert page.problems() == []
    assert {"metrics", "second/metrics", "run", "second/run", "thresholds 1.0: second/predictions"} <= set(headings)


def test_print_keeps_rows_and_pictures_whole_and_writes_addresses_out(written):
    rules = written[written.index("@media print") : written.index("</style>")]
    assert re.search(r"figure, table, tr[^}]*break-inside: avoid", rules)
    assert "display: table-header-group" in rules and "attr(href)" in rules


def test_policy_interval_failed_case_and_hashes_are_shown(page):
    for text in ("A missed structure counts as Dice 0", "95% interval", "truncated", "resend", "ab" * 32, "ef" * 32):
        assert text in page.elements[0]["text"]


def test_no_patient_path_or_file_name_of_an_input_is_shown(page, study):
    assert "DOE" not in page.elements[0]["text"]
    assert str(study["manifest"].parent) not in page.elements[0]["text"]


def test_missing_parts_are_said(study, tmp_path):
    write_report([study["metrics"]], tmp_path / "r.html")
    text = Structure((tmp_path / "r.html").read_text()).elements[0]["text"]
    assert text.count("Not given:") == 4  # cases, dataset, training, times
    assert "no manifest among the sources" in text
    write_report([study["run"]], tmp_path / "r.html")
    text = Structure((tmp_path / "r.html").read_text()).elements[0]["text"]
    assert text.count("Not given:") == 4 and "None: no failed case" in text


def test_findings_of_check_and_evaluate_are_listed_errors_first(study, tmp_path):
    findings = [
        {"code": "near-duplicate", "severity": "warning", "text": "looks alike", "fix": "look"},
        {"code": "label-affine", "severity": "error", "case": "a", "text": "is moved", "fix": "export again"},
    ]
    (tmp_path / "check.json").write_text(json.dumps({"cases": 2, "findings": findings}))
    write_report([tmp_path / "check.json"], tmp_path / "r.html")
    text = Structure((tmp_path / "r.html").read_text()).elements[0]["text"]
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


def test_viewer_pages_lie_beside_the_report_and_are_linked(study, tmp_path):
    write_report(list(study.values()), tmp_path / "our report.html", worst=1, viewers=True)
    page = Structure((tmp_path / "our report.html").read_text())
    links = [unquote(link["href"]) for link in page.named("a") if not link["href"].startswith("#")]
    assert len(links) == 3 and all((tmp_path / link).is_file() for link in links)
    back = Structure((tmp_path / links[0]).read_text()).named("a")[1]["href"]
    assert (tmp_path / links[0]).parent.joinpath(unquote(back)).resolve() == tmp_path / "our report.html"


def test_viewer_page_of_one_named_case(study, tmp_path):
    write_report([study["predictions"], study["whole"]], tmp_path / "r.html", viewer_cases=["whole-template"])
    assert [path.name for path in (tmp_path / "r_viewer").iterdir()] == ["whole-template.html"]


def test_a_file_that_is_no_page_is_never_replaced(study: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "metrics.json"
    out.write_text("precious")
    with pytest.raises(ConfigError, match="found another one"):
        write_report(list(study.values()), out)
    assert out.read_text() == "precious"
