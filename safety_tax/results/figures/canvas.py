"""What all figures share: width, type, colours, marks, and bytes that are the same on every run."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

from safety_tax.core.files import written_atomically
from safety_tax.results.estimate import Estimate

# 4.5 inches are 432 pixels on a page: at 360 pixels, a phone's width, 10-point letters are still 11 pixels high.
WIDTH = 4.5
INK, QUIET, RULE = "#1a1a1a", "#5c5c5c", "#d9d9d9"
# Okabe and Ito 2008: told apart with any common colour blindness. Black is the base's; yellow, the palest, comes last.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
# Shapes say it once more. Their number shares no factor with the colours', so 56 recipes look different.
SHAPES = ("o", "s", "^", "v", "P", "X", "p", "h")
STYLE: dict[Any, Any] = {  # matplotlib types its keys one by one
    "svg.hashsalt": "safety-tax",
    "svg.fonttype": "path",  # the same picture where the font is missing
    "font.family": "DejaVu Sans",  # comes with matplotlib
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.labelsize": 10,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": QUIET,
    "xtick.color": QUIET,
    "ytick.color": QUIET,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
}


class Mark(NamedTuple):
    """How one variant looks in every figure."""

    colour: str
    shape: str
    hollow: bool = False


BASE = Mark("#000000", "D")


def marks(variants: Sequence[str]) -> dict[str, Mark]:
    """A colour and a shape for each variant, by the order of the recipes; the base is a black diamond."""
    recipes = [name for name in variants if name != "base"]
    looks = {name: Mark(COLOURS[i % len(COLOURS)], SHAPES[i % len(SHAPES)]) for i, name in enumerate(recipes)}
    return {name: BASE if name == "base" else looks[name] for name in variants}


@contextmanager
def styled() -> Iterator[None]:
    """Draw and write in the project's style, whatever the machine's own settings say."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        yield


def sheet(
    title: str, explanation: str, height: float, looks: Mapping[str, Mark], panels: int = 1
) -> tuple[Figure, list[Axes]]:
    """A figure with its title, a few grey lines on how to read it, and a legend of `looks`, if any, below.

    `height` is that of the panels, which lie below each other, in inches with their labels.
    """
    lines = wrapped(explanation, WIDTH - 0.25)
    head = 0.34 + 0.165 * (1 + lines.count("\n"))
    columns = 1 if any(len(name) > 28 for name in looks) else 2
    legend = 0.2 * -(-len(looks) // columns) + 0.1 if looks else 0.0
    total = head + height + legend
    layout = ConstrainedLayoutEngine(rect=(0, 0, 1, 1 - head / total), h_pad=0.06, hspace=0.04)
    figure = Figure(figsize=(WIDTH, total), layout=layout)
    figure.text(0.02, 1 - 0.06 / total, title, fontsize=11, fontweight="bold", va="top")
    figure.text(0.02, 1 - 0.3 / total, lines, fontsize=9, color=QUIET, va="top", linespacing=1.2)
    if looks:
        handles = [
            Line2D([], [], linestyle="", label=shortened(name, 48), **_drawn(mark, mark.colour))
            for name, mark in looks.items()
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=columns, frameon=False, handletextpad=0.3)
    return figure, list(figure.subplots(panels, squeeze=False)[:, 0])


def wrapped(text: str, inches: float, size: float = 9) -> str:
    """Cut into lines no wider than that when set at `size` points; a word that is wider by itself is cut, too."""

    def fits(line: str) -> bool:
        width: float = text_to_path.get_text_width_height_descent(line, FontProperties(size=size), ismath=False)[0]
        return width / 72 <= inches

    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}".lstrip()
        if fits(longer):
            lines[-1] = longer
            continue
        lines.append("")
        for letter in word:
            if fits(lines[-1] + letter):
                lines[-1] += letter
            else:
                lines.append(letter)
    return "\n".join(filter(None, lines))


def cross(axes: Axes, mark: Mark, across: Estimate, up: Estimate, sign: int = 1) -> None:
    """A point with the limits of both of its coordinates, fractions drawn in points of 100; `sign` is that of `up`."""
    x, y = 100 * across.value, 100 * sign * up.value
    ends = (100 * across.low, 100 * across.high), (100 * sign * up.low, 100 * sign * up.high)
    axes.plot(ends[0], (y, y), color=mark.colour, linewidth=1.2, alpha=0.6, zorder=3, solid_capstyle="butt")
    axes.plot((x, x), ends[1], color=mark.colour, linewidth=1.2, alpha=0.6, zorder=3, solid_capstyle="butt")
    point(axes, mark, x, y)


def point(axes: Axes, mark: Mark, x: float, y: float) -> None:
    """A variant's mark; a filled one is edged in white so that two that overlap stay two."""
    axes.plot([x], [y], linestyle="", zorder=4, **_drawn(mark, "white"))


def _drawn(mark: Mark, edge: str) -> dict[str, Any]:
    look = {"marker": mark.shape, "markersize": 7, "color": mark.colour}
    if mark.hollow:
        return look | {"markerfacecolor": "white", "markeredgewidth": 1.4}
    return look | {"markeredgecolor": edge}


def shortened(name: str, most: int) -> str:
    """A name that takes no more room than `most` letters."""
    return name if len(name) <= most else name[: most - 1].rstrip() + "…"


def write(figure: Figure, path: Path) -> None:
    """Write an SVG, atomically; the same figure gives the same bytes, whenever it is drawn."""
    with written_atomically(path) as partial:
        figure.savefig(partial, format="svg", metadata={"Date": None, "Creator": None})
