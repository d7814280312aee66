"""The HTML templates of the report: every value is escaped, a missing one is an error."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from medssl.core.optional import require


def render(template: str, content: Mapping[str, Any]) -> str:
    """Fill a template of the folder page/.

    Args:
        template: Its file name.
        content: Value of every name in it.

    Raises:
        DependencyError: If jinja2 is not installed.
    """
    jinja = require("jinja2", feature="medssl report", extra="report")
    environment = jinja.Environment(
        loader=jinja.FunctionLoader(page_file),
        autoescape=True,
        undefined=jinja.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return str(environment.get_template(template).render(content))


def page_file(name: str) -> str:
    """Return the text of a file in page/."""
    return (files("medssl.reports") / "page" / name).read_text(encoding="utf-8")
