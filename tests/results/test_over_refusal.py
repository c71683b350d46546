"""The figure of over-refusal: harmless prompts refused across, harmful ones up, each with its limits."""

import pytest
from matplotlib.lines import Line2D
from sample_results import SHARES, results_of

from safety_tax.results.figures.canvas import styled
from safety_tax.results.figures.over_refusal import draw
from safety_tax.results.figures.run import Run

ONE = {name: SHARES[name] for name in ("base", "ties")}


def test_every_variant_stands_at_its_two_rates_with_their_limits() -> None:
    results = results_of(ONE)
    with styled():
        figure = draw(Run(results, {}))
    assert figure is not None
    (axes,) = figure.axes
    lines = [tuple(map(tuple, line.get_xydata().tolist())) for line in axes.get_lines() if isinstance(line, Line2D)]

    def drawn(*points: tuple[float, float]) -> bool:
        return any(line == tuple(map(pytest.approx, points)) for line in lines)

    assert drawn((0, 0), (100, 100))  # where both shares are equal
    for variant in results.variants.values():
        across, up = variant.rates["over_refusal"], variant.rates["safety"]
        assert drawn((100 * across.value, 100 * up.value))
        assert drawn((100 * across.low, 100 * up.value), (100 * across.high, 100 * up.value))
        assert drawn((100 * across.value, 100 * up.low), (100 * across.value, 100 * up.high))
    assert axes.get_xlim() == axes.get_ylim() == (-2, 102)
    # A tenth of the harmless prompts are refused by the base, three tenths of the harmful ones.
    assert results.base.rates["over_refusal"].value == pytest.approx(0.1)
    assert results.base.rates["safety"].value == pytest.approx(0.3)


def test_without_harmless_prompts_there_is_nothing_to_draw() -> None:
    assert draw(Run(results_of(ONE, without=("benign",)), {})) is None
