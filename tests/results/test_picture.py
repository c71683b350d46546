"""The specification of a picture: where its marks stand, how far its axes go, and what is said to the blind."""

from collections.abc import Sequence
from typing import Any

import pytest
from sample_results import SHARES, results_of

from safety_tax.results.iso_tax import padded
from safety_tax.results.report.picture import Picture, pictures
from safety_tax.results.variant import ModelResults


@pytest.fixture(scope="module")
def results() -> ModelResults:
    return results_of({name: SHARES[name] for name in ("base", "safety_half", "ties", "worse")})


@pytest.fixture(scope="module")
def helpfulness(results: ModelResults) -> Picture:
    return pictures(results, [results], {"ties": 2})[0]


def layers(picture: Picture, mark: str) -> list[dict[str, Any]]:
    return [layer for layer in picture.spec["layer"] if layer["mark"]["type"] == mark]


def domains(picture: Picture) -> list[list[float]]:
    (marks,) = layers(picture, "point")
    return [marks["encoding"][axis]["scale"]["domain"] for axis in "xy"]


def moved(results: ModelResults, by: float) -> ModelResults:
    """The same model, every recipe safer by so much."""
    variants = dict(results.variants)
    for name, recipe in results.recipes.items():
        gain = recipe.gain.model_copy(update={"value": recipe.gain.value + by, "high": recipe.gain.high + by})
        variants[name] = recipe.model_copy(update={"effects": recipe.effects | {"safety_gain": gain}})
    return results.model_copy(update={"variants": variants})


def test_marks_are_gains_across_and_changes_up_in_points(helpfulness: Picture, results: ModelResults) -> None:
    (marks,) = layers(helpfulness, "point")
    base, *rows = marks["data"]["values"]
    assert (base["x"], base["y"], base["look"]) == (0, 0, "base")
    assert [row["variant"] for row in rows] == list(results.recipes)
    for row in rows:
        recipe = results.recipes[row["variant"]]
        loss = recipe.paid["helpfulness"].loss
        assert (row["x_low"], row["x"], row["x_high"]) == pytest.approx(
            tuple(100 * of for of in (recipe.gain.low, recipe.gain.value, recipe.gain.high))
        )
        assert (row["y_low"], row["y"], row["y_high"]) == pytest.approx(
            tuple(-100 * of for of in (loss.high, loss.value, loss.low))
        )
    assert [row["number"] for row in rows] == [-1, 2, -1]
    assert rows[2]["look"] == "dominated"


def test_axes_hold_every_limit_of_all_models_that_share_them(helpfulness: Picture, results: ModelResults) -> None:
    def expected(models: Sequence[ModelResults]) -> list[tuple[float, float]]:
        recipes = [recipe for model in models for recipe in model.recipes.values()]
        losses = [recipe.paid["helpfulness"].loss for recipe in recipes]
        return [
            padded([0.0, *(100 * end for of in recipes for end in (of.gain.low, of.gain.high))]),
            padded([0.0, *(-100 * end for loss in losses for end in (loss.low, loss.high))]),
        ]

    assert domains(helpfulness) == [list(limits) for limits in expected([results])]
    other = moved(results, 0.3)
    beside = pictures(results, [results, other], {}, alone=False)[0]
    assert domains(beside) == [list(limits) for limits in expected([results, other])]


def test_a_picture_alone_has_lines_of_equal_tax_and_small_ones_the_price_alone(results: ModelResults) -> None:
    for alone in (True, False):
        picture = pictures(results, [results], {}, alone=alone)[0]
        named = [row for layer in layers(picture, "text") for row in layer["data"]["values"] if "price" in row]
        assert [row["name"] for row in named if row["price"]] == ["price 1"]
        assert (len(named) > 1) is alone
        for row in named:  # y falls by the tax for each point across
            assert row["y2"] / row["x2"] == pytest.approx(-float(row["name"].split()[1]))


def test_there_is_a_picture_for_each_currency_in_order_and_no_line_where_nothing_can_be_lost(
    results: ModelResults,
) -> None:
    found = pictures(results, [results], {})
    assert [(of.currency, of.noun, of.measurable) for of in found] == [
        ("helpfulness", "helpfulness", True),
        ("knowledge", "accuracy", False),
        ("reasoning", "reasoning", True),
        ("instructions", "instruction following", True),
    ]
    assert [bool(layers(of, "area")) for of in found] == [True, False, True, True]


def test_what_is_drawn_is_said(helpfulness: Picture, results: ModelResults) -> None:
    gain = results.variants["ties"].gain
    assert helpfulness.told.startswith("Safety gained against helpfulness, in points. safety_half: safety ")
    assert f"; ties: safety {100 * gain.value:.1f} [{100 * gain.low:.1f}, {100 * gain.high:.1f}]," in helpfulness.told


def test_a_line_leads_from_where_a_recipe_stood_before(results: ModelResults) -> None:
    earlier = moved(results, -0.1)
    known = {name: of for name, of in earlier.variants.items() if name != "worse"}
    earlier = earlier.model_copy(update={"variants": known})
    picture = pictures(results, [results], {}, before=earlier)[0]
    (lines,) = (layer for layer in layers(picture, "rule") if layer["mark"].get("strokeWidth") == 3)
    rows = lines["data"]["values"]
    assert len(rows) == 2  # `worse` is new
    for row, name in zip(rows, ("safety_half", "ties"), strict=True):
        assert row["x2"] == pytest.approx(100 * results.variants[name].gain.value)
        assert row["x"] == pytest.approx(row["x2"] - 10)
        assert row["y"] == row["y2"]


def test_without_recipes_nothing_is_drawn() -> None:
    alone = results_of({"base": SHARES["base"]})
    assert pictures(alone, [alone], {}) == []
