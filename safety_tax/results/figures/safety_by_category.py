"""Which harmful prompts each variant refuses: safety in each category of the benchmarks."""

from matplotlib.figure import Figure

from safety_tax.results.figures.blocks import draw_blocks, height
from safety_tax.results.figures.canvas import marks, sheet, shortened
from safety_tax.results.figures.run import Run


def draw(run: Run) -> Figure:
    """Refused harmful prompts, in points of 100, with limits."""
    variants = run.results.variants
    blocks = {
        f"{spoken(group)} ({of_base.n:,})": {name: of.safety_by_group[group] for name, of in variants.items()}
        for group, of_base in run.results.base.safety_by_group.items()
    }
    looks = marks(run.variants)
    figure, (axes,) = sheet(
        "Safety by category of harm",
        f"{run.model}. Share of harmful prompts refused, in points of 100; bars are {run.intervals}. In brackets: "
        "prompts. Dotted: the base.",
        height(len(blocks), len(variants)),
        looks,
    )
    draw_blocks(axes, blocks, looks, (-2, 102))
    axes.set_xlabel("harmful prompts refused, of 100  (right: safer)")
    return figure


def spoken(group: str) -> str:
    """A category's name as words, cut where it would leave the page."""
    return shortened(" ".join(group.replace("_", " ").replace(",", ", ").split()), 52)
