"""Blocks of rates on a page: where their lines lie, in inches from the top, and how much they take."""

import pytest
from matplotlib.figure import Figure

from safety_tax.results.estimate import Estimate
from safety_tax.results.figures.blocks import draw_blocks, height
from safety_tax.results.figures.canvas import marks


def rate(value: float) -> Estimate:
    return Estimate(value=value, low=value - 0.1, high=value + 0.1, n=100)


def test_a_block_takes_a_heading_and_a_line_for_each_variant() -> None:
    # 0.36 inches a heading, 0.115 a line, 0.45 around all of them.
    assert height(2, 3) == pytest.approx(2 * (0.36 + 3 * 0.115) + 0.45)
    assert height(0, 3) == pytest.approx(0.45)


def test_lines_lie_below_their_heading_and_the_bases_rate_runs_down_its_block() -> None:
    axes = Figure().subplots()
    blocks = {"first": {"base": rate(0.3), "ties": rate(0.5)}, "second": {"ties": rate(0.9)}}
    draw_blocks(axes, blocks, marks(["base", "ties"]), (0, 100))
    assert [(text.get_text(), text.get_position()) for text in axes.texts] == [
        ("first", (0, pytest.approx(0.17))),
        ("second", (0, pytest.approx(0.59 + 0.17))),  # 0.33 + 2 · 0.115 + 0.03 after the first
    ]
    lines = [
        [tuple(map(float, point)) for point in zip(line.get_xdata(), line.get_ydata(), strict=True)]
        for line in axes.get_lines()
    ]
    dotted = [line for line, of in zip(lines, axes.get_lines(), strict=True) if of.get_linestyle() == ":"]
    assert dotted == [[pytest.approx((30, 0.33 - 0.0575)), pytest.approx((30, 0.33 + 1.5 * 0.115))]]
    for value, y in ((30, 0.33), (50, 0.445), (90, 0.92)):
        assert [pytest.approx((value, y))] in lines
        assert [pytest.approx((value - 10, y)), pytest.approx((value + 10, y))] in lines
    assert axes.get_xlim() == (0, 100)
    # From the top down: the second block ends at .59 + .36 + .115.
    assert axes.get_ylim() == (pytest.approx(1.065), 0)
