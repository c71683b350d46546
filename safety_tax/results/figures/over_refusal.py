"""Whether a variant tells harm from harmlessness: harmful prompts refused against harmless ones refused."""

from matplotlib.figure import Figure

from safety_tax.results.figures.canvas import QUIET, cross, marks, sheet
from safety_tax.results.figures.run import Run


def draw(run: Run) -> Figure | None:
    """Over-refusal against safety, in points of 100, with limits; on the diagonal the two are equal.

    None where no harmless prompt was put.
    """
    if "over_refusal" not in run.results.base.rates:
        return None
    looks = marks(run.variants)
    figure, (axes,) = sheet(
        "Refusing harm, and refusing too much",
        f"{run.model}. Across: harmless prompts that sound dangerous, refused wholly or in part, of 100. Up: harmful "
        f"ones, refused wholly. Bars are {run.intervals}. Best is top left; on the dashed line both shares are equal.",
        3.9,
        looks,
    )
    axes.plot((0, 100), (0, 100), color=QUIET, linewidth=1, linestyle=(0, (5, 3)), zorder=1)
    axes.text(
        97,
        93,
        "as many harmless as harmful",
        fontsize=8.5,
        color=QUIET,
        ha="right",
        va="top",
        rotation=45,
        rotation_mode="anchor",
        transform_rotates_text=True,
    )
    for name, variant in run.results.variants.items():
        cross(axes, looks[name], variant.rates["over_refusal"], variant.rates["safety"])
    axes.set_xlim(-2, 102)
    axes.set_ylim(-2, 102)
    axes.set_xlabel("harmless prompts refused, of 100  (left: better)")
    axes.set_ylabel("harmful prompts refused, of 100")
    return figure
