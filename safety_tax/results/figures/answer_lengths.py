"""How long the answers to harmful, jailbreak and harmless prompts are, and how many ran into the token limit.

Problems and instructions have limits of their own, so they are not among them.
"""

import numpy as np
from matplotlib.figure import Figure

from safety_tax.results.figures.canvas import BASE, QUIET, RULE, marks, point, sheet, shortened
from safety_tax.results.figures.run import Run
from safety_tax.results.variant import VariantResult


def draw(run: Run) -> Figure | None:
    """Above, tokens of an answer: median, middle half and middle nine tenths; below, the share cut off, with limits.

    None where an answer's tokens are not known: it was generated elsewhere.
    """
    every = [answer for answers in run.answers.values() for answer in answers]
    if any(answer.tokens is None for answer in every):
        return None
    limit = max((answer.tokens or 0 for answer in every if answer.truncated), default=None)
    names = run.variants
    looks = marks(names)
    asked = spoken(run.results.base)
    said = "no answer was cut off" if limit is None else f"the limit is {limit:,} tokens, dashed"
    figure, (lengths, cuts) = sheet(
        "Length of the answers",
        f"{run.model}; {asked} prompts. Above: mark = median, thick = middle half, thin = middle "
        f"nine tenths; {said}. Below: share of answers cut off there; bars are {run.intervals}. Dotted: "
        "the base.",
        2 * (0.24 * len(names) + 0.55),
        {},
        panels=2,
    )
    for y, name in enumerate(names):
        colour = looks[name].colour
        tokens = [answer.tokens or 0 for answer in run.answers[name]]
        low, quarter, middle, three_quarters, high = np.percentile(tokens, (5, 25, 50, 75, 95))
        lengths.plot((low, high), (y, y), color=colour, linewidth=1.2, alpha=0.6, zorder=3)
        lengths.plot(
            (quarter, three_quarters), (y, y), color=colour, linewidth=5, alpha=0.6, zorder=3, solid_capstyle="butt"
        )
        point(lengths, looks[name], middle, y)
        cut = run.results.variants[name].rates["truncated"]
        ends = 100 * cut.low, 100 * cut.high
        cuts.plot(ends, (y, y), color=colour, linewidth=1.4, alpha=0.6, zorder=3)
        point(cuts, looks[name], 100 * cut.value, y)
        if name == "base":
            lengths.axvline(middle, color=BASE.colour, linewidth=0.9, linestyle=":", zorder=2)
            cuts.axvline(100 * cut.value, color=BASE.colour, linewidth=0.9, linestyle=":", zorder=2)
    if limit is not None:
        lengths.axvline(limit, color=QUIET, linewidth=1, linestyle=(0, (5, 3)), zorder=1)
    for axes in (lengths, cuts):
        axes.set_yticks(range(len(names)), [shortened(name, 22) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=RULE, linewidth=0.6)
    lengths.set_xlim(left=0)
    lengths.set_xlabel("tokens of an answer")
    cuts.set_xlim(-2, 102)
    cuts.set_xlabel("answers cut off at the limit, of 100")
    return figure


def spoken(base: VariantResult) -> str:
    """`harmful and harmless`: the kinds of prompts whose answers are here."""
    of = {"safety": "harmful", "jailbreak_resistance": "jailbreak", "over_refusal": "harmless"}
    *others, last = (kind for rate, kind in of.items() if rate in base.rates)
    return f"{', '.join(others)} and {last}" if others else last
