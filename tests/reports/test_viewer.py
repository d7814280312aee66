"""The viewer page: nothing from elsewhere, no foreign script, a name for everything."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import numpy as np
import pytest
from reports.structure import Structure

from medssl.reports.case_volumes import CaseVolumes
from medssl.reports.images import Volume
from medssl.reports.viewer import ViewerFolder, plain_name

HOSTILE = "\"><img src=x onerror=alert(1)></script><script>alert('x')</script>"


def _case(*, reference=True, name=HOSTILE):
    labels = np.zeros((10, 12, 14), np.uint8)
    labels[2:5, 3:7, 4:9] = 1
    labels[6:8, 3:7, 4:9] = 2
    image = Volume(labels * 100, (1.0, 1.0, 2.0), np.eye(4))
    names = {1: name, 2: "box"}
    return CaseVolumes(
        id=name,
        image=image,
        prediction=labels,
        reference=labels.copy() if reference else None,
        names=names,
        modality="MR",
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> str:
    folder = ViewerFolder(report=tmp_path_factory.mktemp("viewer") / "r.html", title=HOSTILE)
    folder.write(_case(), role="Worst case", text=HOSTILE)
    return next(folder.folder.iterdir()).read_text()


@pytest.fixture(scope="module")
def page(written) -> Structure:
    return Structure(written)


def test_page_can_be_used_without_sight_mouse_or_colours(page):
    assert page.problems() == []
    assert len(page.named("input")) == 11 and len(page.named("output")) == 5


def test_names_are_shown_and_do_not_run(page, written):
    assert not page.named("img", "iframe", "link", "object")
    assert HOSTILE in page.named("h1")[0]["text"] and HOSTILE in page.named("tbody")[0]["text"]
    settings = next(each["text"] for each in page.named("script") if each.get("id") == "settings")
    assert json.loads(settings)["structures"][0]["name"] == HOSTILE
    assert "alert('x')" not in written


def test_policy_lets_the_two_scripts_run_and_nothing_else(page):
    policy = next(each["content"] for each in page.named("meta") if each.get("http-equiv"))
    scripts = [each["text"] for each in page.named("script") if "type" not in each]
    hashes = [f"'sha256-{base64.b64encode(hashlib.sha256(each.encode()).digest()).decode()}'" for each in scripts]
    assert policy.startswith("default-src 'none'") and len(scripts) == 2
    assert re.search(r"script-src (.*)", policy)[1].split() == hashes
    assert "connect-src" not in policy and "unsafe-eval" not in policy


def test_without_a_reference_nothing_speaks_of_one(tmp_path):
    folder = ViewerFolder(report=tmp_path / "r.html", title="T")
    link = folder.write(_case(reference=False, name="a"), role="Not scored", text="ball 1 ml")
    page = Structure((tmp_path / link).read_text())
    assert page.problems() == []
    assert not [each for each in page.elements if "reference" in (each.get("id") or "")]


def test_volumes_of_structures_are_listed(page):
    rows = [[cell["text"].strip() for cell in row["children"]] for row in page.named("tr")]
    assert rows[2] == ["2 box", "0.08", "0.08"]  # 2 x 4 x 5 voxels of 2 mm3


def test_page_begins_where_prediction_and_reference_differ_most(tmp_path):
    case = _case(name="a")
    case.reference[3, 4, 5] = 2
    link = ViewerFolder(report=tmp_path / "r.html", title="T").write(case, role="R", text="t")
    scripts = Structure((tmp_path / link).read_text()).named("script")
    assert json.loads(next(each["text"] for each in scripts if each.get("id") == "settings"))["start"] == [3, 4, 5]


def test_pages_of_one_name_do_not_overwrite_each_other(tmp_path):
    folder = ViewerFolder(report=tmp_path / "r.html", title="T")
    links = [folder.write(_case(name=name), role="R", text="t") for name in ("a", "a", "A")]
    assert links == ["r_viewer/a.html", "r_viewer/a-2.html", "r_viewer/A-3.html"]


def test_file_names_are_plain_and_unique():
    assert plain_name("case_01.a-b") == "case_01.a-b"
    names = {plain_name(name) for name in ("a b", "a/b", "a?b", HOSTILE, "é" * 300)}
    assert len(names) == 5 and all(re.fullmatch(r"[\w.-]{1,89}", name, re.ASCII) for name in names)


def test_only_the_wanted_cases_get_a_page(tmp_path):
    assert ViewerFolder(report=tmp_path, title="T").wants("a")
    assert not ViewerFolder(report=tmp_path, title="T", cases=["b"]).wants("a")
