"""The figure of net benefit: which prices count, what is left out of it, and where it is cut."""

import pytest
from matplotlib.text import Text
from sample_results import CLEAR_OF_CHANCE, SHARES, results_of

from safety_tax.results.figures.canvas import styled
from safety_tax.results.figures.net_benefit import LOWEST, draw, left_out, priced
from safety_tax.results.figures.run import Run
from safety_tax.results.variant import ModelResults

ONE = {name: SHARES[name] for name in ("base", "ties")}


@pytest.fixture(scope="module")
def results() -> ModelResults:
    return results_of(ONE)


def test_the_prices_that_count_are_those_of_what_can_be_lost(results: ModelResults) -> None:
    assert priced(results) == " (helpfulness 1, reasoning 0.25, instruction following 0.5)"
    assert left_out(results) == " Left out, since it cannot show a loss: accuracy."
    knowing = results_of(ONE | {"base": SHARES["base"] | CLEAR_OF_CHANCE})
    assert priced(knowing) == " (helpfulness 1, accuracy 0.25, reasoning 0.25, instruction following 0.5)"
    assert left_out(knowing) == ""
    nothing = results_of(ONE, without=("benign", "choice", "problem", "instruction"))
    assert (priced(nothing), left_out(nothing)) == ("", "")


def test_what_lies_below_the_loss_of_all_safety_is_cut_and_it_says_so(results: ModelResults) -> None:
    benefit = results.variants["ties"].net_benefit
    assert benefit is not None
    for low, cut in ((-0.99, False), (-1.01, True)):
        points = [point.model_copy(update={"low": low, "value": 0.0, "high": 0.5}) for point in benefit.by_scale]
        ties = results.variants["ties"].model_copy(
            update={"net_benefit": benefit.model_copy(update={"by_scale": points})}
        )
        changed = results.model_copy(update={"variants": results.variants | {"ties": ties}})
        with styled():
            figure = draw(Run(changed, {}))
        assert figure is not None
        bottom = figure.axes[0].get_ylim()[0]
        assert bool(bottom == LOWEST) is cut
        said = " ".join(text.get_text().replace("\n", " ") for text in figure.findobj(Text))
        assert ("What lies below −100 is not shown." in said) is cut
