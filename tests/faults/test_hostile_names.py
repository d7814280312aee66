"""Case and label names that are HTML, markup or longer than a file name: shown as text, never run."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from faults import hospital
from faults.hospital import make_hospital
from faults.hostile_files import HOSTILE_ID, HOSTILE_NAME

from medssl.core import exit_codes


def _is_script(address: str | None) -> bool:
    return (address or "").strip().lower().startswith("javascript:")


class _Page(HTMLParser):
    """Collects what a browser would run, and the text it would show."""

    def __init__(self) -> None:
        super().__init__()
        self.active: list[str] = []
        self.text = ""
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.active += [f"{tag} {name}" for name, value in attrs if name.startswith("on") or _is_script(value)]
        self._script = tag == "script"

    def handle_endtag(self, tag: str) -> None:
        self._script = False

    def handle_data(self, data: str) -> None:
        if self._script and "alert('$x$')" in data.replace("\\u0027", "'"):
            self.active.append(data)
        self.text += "" if self._script else data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hospital whose second test case and first label have hostile names, in every file."""
    folder = make_hospital(tmp_path_factory.mktemp("hospital") / "sound")
    for path in folder.rglob("*.json"):
        text = path.read_text(encoding="utf-8").replace('"v2"', json.dumps(HOSTILE_ID))
        path.write_text(text.replace('"front"', json.dumps(HOSTILE_NAME)), encoding="utf-8")
    shutil.rmtree(folder / "predictions")
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> _Page:
    outcomes = [hospital.infer(folder), hospital.evaluate(folder), hospital.report(folder)]
    assert [outcome.exit_code for outcome in outcomes] == [exit_codes.OK] * 3, outcomes
    page = _Page()
    page.feed((folder / "report.html").read_text(encoding="utf-8"))
    return page


def test_the_report_shows_hostile_names_as_text(page: _Page) -> None:
    assert HOSTILE_ID in page.text
    assert HOSTILE_NAME in page.text


def test_the_report_runs_nothing_of_them(page: _Page) -> None:
    assert page.active == []


def test_no_unescaped_name_is_in_the_file(page: _Page, folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    assert HOSTILE_ID not in text
    assert HOSTILE_NAME not in text


def test_the_outputs_carry_the_names_as_they_are(page: _Page, folder: Path) -> None:
    assert (folder / "predictions" / f"{HOSTILE_ID}.nii.gz").is_file()
    metrics = json.loads((folder / "metrics" / "metrics.json").read_text(encoding="utf-8"))
    assert HOSTILE_ID in {case["id"] for case in metrics["cases"]}
    assert HOSTILE_NAME in metrics["summary"]


def test_the_parser_sees_what_a_browser_would_run() -> None:
    page = _Page()
    page.feed(f"<p>{HOSTILE_ID}</p><b title='{HOSTILE_ID}'>{HOSTILE_NAME}</b>")
    assert page.active == ["img onerror", "alert('$x$')"]


@pytest.mark.parametrize("name", ["x" * 300, "..", "a/b", "nul\x00", "\ud800", ".hidden", ""])
def test_an_id_that_cannot_name_a_file_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(folder / "data", tmp_path / "data")
    manifest = tmp_path / "data" / "manifest.json"
    content = json.loads(manifest.read_text(encoding="utf-8"))
    content["test"][0]["id"] = name
    manifest.write_text(json.dumps(content), encoding="utf-8")
    outcome = hospital.check(tmp_path)
    assert (outcome.exit_code, outcome.codes) == (exit_codes.USAGE, ("refused: ManifestError manifest",))
