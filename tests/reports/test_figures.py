"""Figures are data, need no font and leave matplotlib's settings alone."""

from __future__ import annotations

import base64
import importlib
import re

import matplotlib
import pytest

from medssl.core.errors import DependencyError
from medssl.reports.figures import CLASS_COLOURS, new_figure, plain_text, png_data, quiet_axes, svg_data


@pytest.fixture
def figure():
    figure = new_figure(3, 2)
    axes = figure.add_subplot()
    quiet_axes(axes, x_label="step", y_label="loss")
    axes.plot([0, 1], [1, 0])
    return figure


def test_svg_holds_its_letters_as_paths_and_links_nowhere(figure):
    svg = base64.b64decode(svg_data(figure).removeprefix("data:image/svg+xml;base64,")).decode()
    assert "<text" not in svg and "font-family" not in svg
    assert not re.search(r"(href|src)=\"(?!#)|url\((?!#)|@import|<image|<script", svg)


def test_png_is_a_png(figure):
    assert base64.b64decode(png_data(figure).removeprefix("data:image/png;base64,")).startswith(b"\x89PNG")


def test_global_settings_stay_as_they_were(figure):
    before = dict(matplotlib.rcParams)
    svg_data(figure)
    assert dict(matplotlib.rcParams) == before


def test_a_dollar_sign_in_a_name_is_no_formula():
    figure = new_figure(2, 2)
    figure.add_subplot().set_title(plain_text("$\\bad{$"))
    assert svg_data(figure)


def test_colours_differ():
    assert len(set(CLASS_COLOURS)) == len(CLASS_COLOURS)


def test_missing_matplotlib_names_the_extra(monkeypatch):
    def refuse(name):
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(DependencyError, match=r"medssl\[report\]"):
        new_figure(1, 1)
