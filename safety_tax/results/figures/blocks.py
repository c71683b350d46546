"""Rates in groups: a block a group, a line a variant, each a mark with its limits."""

from collections.abc import Mapping

from matplotlib.axes import Axes

from safety_tax.results.estimate import Estimate
from safety_tax.results.figures.canvas import BASE, QUIET, RULE, Mark, point

LINE = 0.115  # inches a variant
HEADING = 0.36  # inches a block's heading and the room around it


def height(groups: int, variants: int) -> float:
    """Inches that the blocks take."""
    return groups * (variants * LINE + HEADING) + 0.45


def draw_blocks(
    axes: Axes, blocks: Mapping[str, Mapping[str, Estimate]], looks: Mapping[str, Mark], limits: tuple[float, float]
) -> None:
    """Rates in fractions, drawn as points of 100; a dotted line carries the base's down its block."""
    y = 0.0
    paper = {"facecolor": "white", "edgecolor": "none", "pad": 1}
    for heading, rates in blocks.items():
        axes.axhline(y, color=RULE, linewidth=0.8, zorder=1)
        axes.text(
            0, y + 0.17, heading, transform=axes.get_yaxis_transform(), fontsize=9.5, va="center", zorder=3, bbox=paper
        )
        y += HEADING - 0.03
        base = rates.get("base")
        if base is not None:
            ends = (y - LINE / 2, y + LINE * (len(rates) - 0.5))
            axes.plot([100 * base.value] * 2, ends, color=BASE.colour, linewidth=0.9, linestyle=":", zorder=2)
        for name, rate in rates.items():
            axes.plot(
                (100 * rate.low, 100 * rate.high),
                (y, y),
                color=looks[name].colour,
                linewidth=1.4,
                alpha=0.6,
                zorder=3,
            )
            point(axes, looks[name], 100 * rate.value, y)
            y += LINE
        y += 0.03
    axes.set_ylim(y, 0)
    axes.set_xlim(*limits)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=RULE, linewidth=0.6)
    axes.tick_params(axis="x", color=QUIET)
