from dataclasses import replace

from reports.structure import Structure

from medssl.reports.figures import new_figure
from medssl.reports.study_page import StudyPage

PAGE = StudyPage(
    title="Few <labels>",
    about="What it asks.",
    figure=new_figure(2, 1),
    headings=("labelled", "arm", "Dice"),
    lines=[("1", "plain", "0.5"), ("1", "views", "0.6")],
    notes=["Intervals.", "views with 1 label\nviews with 2 labels"],
    command="medssl study plan.json",
)


def test_page_can_be_read_without_sight_and_loads_nothing() -> None:
    html = PAGE.html()
    assert Structure(html).problems() == []
    assert "http://" not in html.replace("http://www.w3.org", "")
    assert "https://" not in html


def test_page_holds_curve_table_notes_and_command() -> None:
    page = Structure(PAGE.html())
    assert page.named("img")[0]["src"].startswith("data:image/svg+xml;base64,")
    assert [cell["text"] for cell in page.named("td", "th")] == ["labelled", "arm", "Dice", *sum(PAGE.lines, ())]
    assert "views with 1 label<br>views with 2 labels" in PAGE.html()
    assert page.named("footer")[0]["text"].strip().endswith("medssl study plan.json")


def test_names_are_text_and_never_markup() -> None:
    html = replace(PAGE, about="<script>alert(1)</script>").html()
    assert "<h1>Few &lt;labels&gt;</h1>" in html
    assert "<script>" not in html
