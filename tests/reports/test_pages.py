"""Templates escape what they show, and say what they miss."""

from __future__ import annotations

from importlib.resources import files

import jinja2
import pytest

from medssl.reports.pages import page_file, render


def test_missing_value_is_an_error_not_a_gap():
    with pytest.raises(jinja2.UndefinedError):
        render("viewer.html", {})


def test_vendored_script_names_its_version_and_carries_its_licences():
    script, licence = page_file("niivue.min.js"), page_file("niivue.LICENSE.txt")
    assert script.startswith("/*! NiiVue 0.") and licence.strip() in script[: len(licence) + 200]
    assert all(words in licence for words in ("BSD 2-Clause", "Copyright (c) 2021, Niivue", "fflate", "gl-matrix"))
    assert "sourceMappingURL" not in script and len(script) < 1_000_000


@pytest.mark.parametrize("name", ["niivue.min.js", "viewer.js"])
def test_scripts_may_stand_inside_a_page(name):
    # What ends a script element in HTML, and characters that a parser would change under the hash
    script = (files("medssl.reports") / "page" / name).read_bytes().lower()
    assert not any(part in script for part in (b"</script", b"<!--", b"\r", b"\0"))
