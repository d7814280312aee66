"""The curve shows each arm's mean Dice and interval at each number of labels, and is written whole."""

import pytest
from studies.small_study import row

from medssl.studies.curve import curve_figure, write_curve
from medssl.studies.summary import Row


def test_each_arm_has_a_line_through_its_means_with_its_intervals(rows: list[Row]) -> None:
    (axes,) = curve_figure(rows, title="small").axes
    assert (axes.get_title(), axes.get_ylabel()) == ("small", "mean Dice")
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["plain", "better", "plain three"]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["1", "2"]
    for container, arm in zip(axes.containers, ("plain", "better", "plain_three"), strict=True):
        line, _, (bars,) = container
        wanted = [row(rows, arm, count).dice for count in (1, 2)]
        assert list(line.get_ydata()) == pytest.approx([each.mean for each in wanted])
        assert list(line.get_xdata()) == pytest.approx([1, 2], rel=0.05)  # beside each other
        ends = [segment[:, 1] for segment in bars.get_segments()]
        assert [list(each) for each in ends] == [pytest.approx([each.low, each.high]) for each in wanted]


def test_the_curve_is_written_as_a_picture(rows: list[Row], tmp_path) -> None:
    write_curve(tmp_path / "curve.png", curve_figure(rows, title="small"))
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
