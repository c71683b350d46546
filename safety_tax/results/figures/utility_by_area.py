"""What each variant knows: accuracy in the four areas of MMLU (Hendrycks et al. 2021)."""

from collections.abc import Mapping

from matplotlib.figure import Figure

from safety_tax.results.estimate import Estimate
from safety_tax.results.figures.blocks import draw_blocks, height
from safety_tax.results.figures.canvas import QUIET, marks, sheet
from safety_tax.results.figures.run import Run
from safety_tax.results.mmlu_areas import AREAS, OUTSIDE, area_of
from safety_tax.results.statistics.intervals import wilson


def draw(run: Run) -> Figure | None:
    """Questions answered correctly, in points of 100, with limits; subjects pooled by area. None without questions."""
    if "knowledge" not in run.results.currencies:
        return None
    knowledge = {variant.name: result for variant, result in run.results.of_currency("knowledge")}
    areas = {name: by_area(result.by_group, run.results.confidence) for name, result in knowledge.items()}
    blocks = {
        f"{area} ({of_base.n:,})": {name: of[area] for name, of in areas.items()}
        for area, of_base in areas["base"].items()
    }
    chance = 100 * knowledge["base"].chance
    looks = marks(run.variants)
    figure, (axes,) = sheet(
        "Accuracy by area of knowledge",
        f"{run.model}. Share of questions answered correctly, in points of 100; bars are {run.intervals}. In brackets: "
        f"questions. Dotted: the base. Dashed: guessing ({chance:.0f}).",
        height(len(blocks), len(areas)),
        looks,
    )
    every = [limit for of in blocks.values() for rate in of.values() for limit in (rate.low, rate.high)]
    limits = max(100 * min(every) - 3, -2), min(100 * max(every) + 3, 102)
    draw_blocks(axes, blocks, looks, (min(limits[0], chance - 3), max(limits[1], chance + 3)))
    axes.axvline(chance, color=QUIET, linewidth=1.1, linestyle=(0, (5, 3)), zorder=2)
    axes.set_xlabel("questions answered correctly, of 100")
    return figure


def by_area(by_subject: Mapping[str, Estimate], confidence: float) -> dict[str, Estimate]:
    """Area -> accuracy of its subjects' questions, pooled; areas without any are left out."""
    right: dict[str, int] = {}
    asked: dict[str, int] = {}
    for subject, rate in by_subject.items():
        area = area_of(subject)
        right[area] = right.get(area, 0) + round(rate.value * rate.n)
        asked[area] = asked.get(area, 0) + rate.n
    return {
        area: Estimate.of(wilson(right[area], asked[area], confidence), asked[area])
        for area in (*AREAS, OUTSIDE)
        if area in asked
    }
