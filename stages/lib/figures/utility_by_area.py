"""What each variant knows: accuracy in the four areas of MMLU (Hendrycks et al. 2021)."""

from matplotlib.figure import Figure

from stages.lib.figures.blocks import draw_blocks, height
from stages.lib.figures.canvas import QUIET, marks, sheet
from stages.lib.figures.run import Run
from stages.lib.mmlu_areas import AREAS, OUTSIDE, area_of
from stages.lib.statistics.intervals import Interval, wilson


def draw(run: Run) -> Figure:
    """Questions answered correctly, in points of 100, with limits; subjects pooled by area."""
    rates = {
        name: by_area(numbers["utility_by_group"], run.settings.confidence) for name, numbers in run.summary.items()
    }
    counts = {area: of_base[1] for area, of_base in rates["base"].items()}
    blocks = {
        f"{area} ({count:,})": {name: of[area][0] for name, of in rates.items()} for area, count in counts.items()
    }
    chance = 100 * run.summary["base"]["chance"]
    looks = marks(list(run.summary))
    figure, (axes,) = sheet(
        "Accuracy by area of knowledge",
        f"{run.model}. Share of questions answered correctly, in points of 100; bars are {run.intervals}. In brackets: "
        f"questions. Dotted: the base. Dashed: guessing ({chance:.0f}).",
        height(len(blocks), len(run.summary)),
        looks,
    )
    every = [limit for of in blocks.values() for rate in of.values() for limit in (rate.lower, rate.upper)]
    limits = max(100 * min(every) - 3, -2), min(100 * max(every) + 3, 102)
    draw_blocks(axes, blocks, looks, (min(limits[0], chance - 3), max(limits[1], chance + 3)))
    axes.axvline(chance, color=QUIET, linewidth=1.1, linestyle=(0, (5, 3)), zorder=2)
    axes.set_xlabel("questions answered correctly, of 100")
    return figure


def by_area(by_subject: dict[str, dict[str, float]], confidence: float) -> dict[str, tuple[Interval, int]]:
    """Area -> accuracy of its subjects' questions, pooled, and their number; areas without any are left out."""
    right: dict[str, int] = {}
    asked: dict[str, int] = {}
    for subject, numbers in by_subject.items():
        area = area_of(subject)
        right[area] = right.get(area, 0) + round(numbers["rate"] * numbers["n"])
        asked[area] = asked.get(area, 0) + int(numbers["n"])
    return {
        area: (wilson(right[area], asked[area], confidence), asked[area]) for area in (*AREAS, OUTSIDE) if area in asked
    }
