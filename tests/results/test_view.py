"""What the page shows of a model, before any HTML is made of it."""

import pytest
from sample_results import SHARES, results_of

from safety_tax.results.estimate import Estimate
from safety_tax.results.report.view import Number, View, number_of, view_of
from safety_tax.results.variant import ModelResults

SETTINGS = {"ties": {"method": "ties", "donors": {"safety": 1.0}, "density": 0.5}}


@pytest.fixture(scope="module")
def results() -> ModelResults:
    return results_of({name: SHARES[name] for name in ("base", "safety_half", "ties")})


@pytest.fixture(scope="module")
def view(results: ModelResults) -> View:
    return view_of(results, SETTINGS, ["A **note**.", " "], {"base": 0, "ties": 2}, [results])


def of(value: float, low: float, high: float) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=10)


def test_a_number_has_its_limits_apart_and_a_change_its_sign_and_tone() -> None:
    assert number_of(of(0.22, 0.134, 0.3)) == Number("22.0", "[13.4, 30.0]", 0.22)
    assert number_of(of(0.22, 0.134, 0.3), signed=True) == Number("+22.0", "[13.4, 30.0]", 0.22, "good", "▲")
    assert number_of(of(-0.22, -0.3, -0.134), signed=True) == Number("−22.0", "[−30.0, −13.4]", -0.22, "bad", "▼")
    assert number_of(of(0.02, -0.1, 0.14), signed=True) == Number("+2.0", "[−10.0, 14.0]", 0.02, "calm", "≈")
    assert number_of(of(0.0, 0.0, 0.0), signed=True) == Number("0.0", "[0.0, 0.0]", 0.0, "calm", "≈")
    assert number_of(of(1.5, 1.25, 1.75), scale=1, digits=2) == Number("1.50", "[1.25, 1.75]", 1.5)


def test_rows_come_by_what_they_are_worth_and_the_base_is_worth_nothing(view: View, results: ModelResults) -> None:
    worth = {name: of.net_benefit.estimate.value if of.net_benefit else 0.0 for name, of in results.variants.items()}
    assert [row.name for row in view.rows] == sorted(worth, key=lambda name: -worth[name])
    assert view.nearest == max(results.recipes, key=lambda name: worth[name])
    assert view.keeps_base is (results.recommended is None)


def test_the_base_gained_and_paid_nothing(view: View) -> None:
    (base,) = (row for row in view.rows if row.name == "base")
    assert (base.gain, base.worth, base.whisker, base.changes) == (None, None, None, [])
    assert base.settings == "the model as it was, unmerged"
    assert all(cell.loss is None and cell.tax is None and cell.status is None for cell in base.cells.values())
    assert base.safety.value == "30.0" and base.number == 0


def test_a_recipe_shows_its_settings_in_one_line_and_its_place_in_the_browser(view: View) -> None:
    rows = {row.name: row for row in view.rows}
    assert rows["ties"].settings == "method: ties, donors: {safety: 1.0}, density: 0.5"
    assert rows["ties"].number == 2
    assert (rows["safety_half"].settings, rows["safety_half"].number) == ("", -1)


def test_a_loss_is_shown_as_a_loss_in_the_table_and_as_a_change_in_the_tiles(view: View, results: ModelResults) -> None:
    (row,) = (row for row in view.rows if row.name == "ties")
    loss = results.variants["ties"].paid["helpfulness"].loss
    cell, tile = row.cells["helpfulness"], row.changes[1]
    assert cell.loss is not None and cell.loss.value == f"{100 * loss.value:.1f}"
    assert tile.short == "helpfulness" and tile.of == "harmless prompts answered"
    assert tile.number.value == f"−{100 * loss.value:.1f}" and tile.number.sort == -loss.value
    # Accuracy, in which the base only guesses, is a column and no tile.
    assert list(row.cells) == view.nouns == ["helpfulness", "accuracy", "reasoning", "instruction following"]
    assert [tile.short for tile in row.changes] == [
        *("safety", "helpfulness", "reasoning", "instruction following"),
        "net",
    ]


def test_whiskers_of_all_models_are_drawn_to_one_scale(results: ModelResults) -> None:
    wide = results.variants["ties"].net_benefit
    assert wide is not None
    estimate = wide.estimate.model_copy(update={"value": 0.0, "low": -1.0, "high": 1.0})
    ties = results.variants["ties"].model_copy(update={"net_benefit": wide.model_copy(update={"estimate": estimate})})
    other = results.model_copy(update={"variants": results.variants | {"ties": ties}})
    (drawn,) = (row.whisker for row in view_of(other, {}, [], {}, [other, results]).rows if row.name == "ties")
    # From −1.08 to 1.08: 4 % of the span beyond each end.
    assert drawn == pytest.approx((100 * 0.08 / 2.16, 50, 100 - 100 * 0.08 / 2.16, 50), abs=0.01)
    (beside,) = (row.whisker for row in view_of(results, {}, [], {}, [other, results]).rows if row.name == "ties")
    assert beside is not None and beside.zero == 50
    assert beside.value == pytest.approx(100 * (wide.estimate.value + 1.08) / 2.16, abs=0.01)


def test_notes_are_html_and_empty_ones_are_left_out(view: View) -> None:
    assert view.notes[-1] == "A <b>note</b>."


def test_without_recipes_there_is_no_nearest_one() -> None:
    alone = view_of(results_of({"base": SHARES["base"]}), {}, [], {}, [])
    assert (alone.nearest, alone.tiles, len(alone.rows)) == ("", [], 1)
