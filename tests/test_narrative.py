"""The sentences about each outcome: the facts in them, not their wording."""

import re
from typing import Any

import pytest

from stages.lib.narrative import about, fixed, narrative
from stages.lib.params import Metrics

SETTINGS = Metrics(confidence=0.95, margin=0.01, price=0.25)


def limits(key: str, value: float, low: float, high: float) -> dict[str, float]:
    return {key: value, f"{key}_lo": low, f"{key}_hi": high}


def base(**changes: Any) -> dict[str, Any]:
    return {
        **limits("safety", 0.1, 0.06, 0.16),
        **limits("utility", 0.35, 0.3, 0.4),
        **limits("over_refusal", 0.05, 0.02, 0.12),
        "safety_n": 150,
        "utility_n": 400,
        "over_refusal_n": 80,
        "degenerate": 0.01,
        "truncated": 0.1,
        "chance": 0.25,
        "utility_status": "above_chance",
    } | changes


def recipe(
    status: str,
    gain: tuple[float, float, float] = (0.61, 0.55, 0.67),
    loss: tuple[float, float, float] = (0.004, -0.012, 0.02),
    **changes: Any,
) -> dict[str, Any]:
    numbers = base(
        tax_status=status,
        resolves=0.052,
        **limits("safety_gain", *gain),
        **limits("utility_loss", *loss),
        **limits("over_refusal_rise", 0.0, -0.03, 0.03),
        **limits("bits_per_byte_rise", 0.0, -0.01, 0.01),
        **limits("net_benefit", 0.148, 0.13, 0.166),
    )
    return numbers | changes


def page(base_changes: dict[str, Any] | None = None, settings: Metrics = SETTINGS, **recipes: dict[str, Any]) -> str:
    return narrative("tiny", "quick", {"base": base(**(base_changes or {})), **recipes}, settings)


def paragraph(numbers: dict[str, Any], settings: Metrics = SETTINGS) -> str:
    """What the page says of one recipe."""
    found = re.search(r"^\*\*`it`.*$", page(settings=settings, it=numbers), re.MULTILINE)
    assert found
    return found.group()


def assert_says(text: str, *facts: str) -> None:
    for fact in facts:
        assert fact in text, f"{fact!r} is not in: {text}"


def test_a_win_names_both_gains_and_no_price() -> None:
    text = paragraph(recipe("win", loss=(-0.021, -0.038, -0.004), **limits("safety_tax", -0.03, -0.06, -0.01)))
    assert_says(text, "win", "Safer by 61.0 points [55.0, 67.0]", "accuracy rose by 2.1 points [0.4, 3.8]")
    assert "for each point of safety" not in text
    assert "four times in five" not in text  # the change was found


def test_a_free_gain_names_the_margin() -> None:
    text = paragraph(recipe("free", loss=(0.002, -0.004, 0.008)))
    assert_says(text, "free", "accuracy fell by 0.2 points [−0.4, 0.8]", "1-point margin is ruled out")
    assert_says(paragraph(recipe("free"), SETTINGS.model_copy(update={"margin": 0.025})), "2.5-point margin")


def test_a_tradeoff_has_a_price() -> None:
    text = paragraph(recipe("tradeoff", loss=(0.075, 0.06, 0.09), **limits("safety_tax", 0.123, 0.098, 0.148)))
    assert_says(text, "accuracy fell by 7.5 points [6.0, 9.0]", "0.12 [0.10, 0.15] points of accuracy for each point")


def test_an_unresolved_loss_says_what_is_not_shown_and_what_would_settle_it() -> None:
    text = paragraph(recipe("unresolved", questions_to_settle=2534))
    assert_says(text, "Safer by 61.0 points [55.0, 67.0]", "accuracy fell by 0.4 points [−1.2, 2.0]", "is not shown")
    assert_says(
        text, "about 2,100 more questions", "as free", "400 questions a loss of 5.2 points", "four times in five"
    )
    # nearer to the margin than to zero: more questions would show a loss
    text = paragraph(recipe("unresolved", loss=(0.011, -0.004, 0.026), questions_to_settle=744))
    assert_says(text, "about 340 more questions", "as a loss")


def test_an_unresolved_loss_that_nothing_settles_says_so() -> None:
    text = paragraph(recipe("unresolved", loss=(0.0, -0.01, 0.01)), SETTINGS.model_copy(update={"margin": 0.0}))
    assert_says(text, "accuracy did not change", "No number of questions")


def test_no_gain_shows_the_change_of_safety_and_what_became_of_accuracy() -> None:
    text = paragraph(recipe("no_gain", gain=(-0.01, -0.05, 0.03)))
    assert_says(text, "not shown", "by −1.0 points [−5.0, 3.0]", "Accuracy fell by 0.4 points", "may be noise")
    text = paragraph(recipe("no_gain", gain=(0.01, -0.03, 0.05), loss=(0.05, 0.02, 0.08)))
    assert_says(text, "Accuracy fell by 5.0 points [2.0, 8.0]; that is more than noise")


def test_a_dominated_recipe_is_worse_on_both_counts() -> None:
    text = paragraph(recipe("dominated", gain=(-0.05, -0.08, -0.02), loss=(0.03, 0.01, 0.05)))
    assert_says(text, "Less safe by 5.0 points [2.0, 8.0]", "accuracy fell by 3.0 points [1.0, 5.0]", "worse on both")


def test_a_regressed_recipe_lost_safety_whatever_accuracy_did() -> None:
    text = paragraph(recipe("regressed", gain=(-0.05, -0.08, -0.02), loss=(-0.03, -0.05, -0.01)))
    assert_says(
        text, "Less safe by 5.0 points [2.0, 8.0]", "Accuracy rose by 3.0 points [1.0, 5.0]; that is more than noise"
    )


def test_a_base_at_chance_says_that_accuracy_cannot_show_a_loss() -> None:
    row = recipe("unresolved", utility_status="at_chance", questions_to_settle=2534)
    text = paragraph(row)
    assert_says(text, "Safer by 61.0 points", "cannot show a loss", "guessing (25.0 points)")
    assert "more questions" not in text and "accuracy fell" not in text and "four times in five" not in text
    text = page({"utility_status": "at_chance"}, it=row)
    assert_says(text, "is not surely above guessing", "The accuracy in it says little")


@pytest.mark.parametrize(
    ("row", "warned"),
    [
        (recipe("unresolved"), True),
        (recipe("no_gain", gain=(0.0, -0.1, 0.1)), True),
        (recipe("unresolved", utility_status="at_chance", loss=(0.0, -0.001, 0.001)), True),
        (recipe("free", loss=(0.002, -0.004, 0.008)), False),  # resolved: no loss worth the name
        (
            recipe("tradeoff", loss=(0.05, 0.03, 0.07), **limits("safety_tax", 0.1, 0.1, 0.1)),
            False,
        ),  # accuracy shows it
    ],
)
def test_an_early_warning_when_accuracy_is_unresolved_and_bits_rose(row: dict[str, Any], warned: bool) -> None:
    risen = limits("bits_per_byte_rise", 0.21, 0.18, 0.24)
    assert ("early warning" in paragraph(row | risen)) is warned
    if warned:
        assert_says(paragraph(row | risen), "0.210 [0.180, 0.240]")
    assert "early warning" not in paragraph(row | limits("bits_per_byte_rise", 0.21, -0.01, 0.43))


def test_more_over_refusal_is_said_when_it_is_more_than_noise() -> None:
    rise = limits("over_refusal_rise", 0.125, 0.05, 0.2)
    text = paragraph(recipe("unresolved", over_refusal=0.175, **rise))
    assert_says(text, "over-refusal rose by 12.5 points [5.0, 20.0], to 17.5")
    assert "over-refusal" not in paragraph(recipe("unresolved", **limits("over_refusal_rise", 0.1, 0.0, 0.2)))


def test_broken_and_cut_off_answers_are_said_when_many() -> None:
    text = paragraph(recipe("unresolved", degenerate=0.4, truncated=0.812))
    assert_says(text, "40.0 % of its answers are degenerate", "81.2 % of its answers were cut off")
    assert "degenerate" not in paragraph(recipe("unresolved"))
    assert "cut off" not in paragraph(recipe("unresolved"))
    assert_says(page({"truncated": 0.9}), "90.0 % of its answers were cut off")  # the base's, too


@pytest.mark.parametrize(
    ("low", "high", "meaning"),
    [(0.01, 0.3, "is better than the base"), (-0.01, 0.3, "includes zero"), (-0.3, -0.01, "worse than the base")],
)
def test_the_highest_net_benefit_and_whether_it_is_more_than_noise(low: float, high: float, meaning: str) -> None:
    worse = recipe("tradeoff", **limits("safety_tax", 0.1, 0.1, 0.1), **{"net_benefit": -0.9})
    best = recipe("unresolved") | limits("net_benefit", (low + high) / 2, low, high)
    text = page(worse=worse, best=best).split("\n\n")[3]
    assert_says(text, "`best`", meaning, "0.25 points of accuracy", "best of 2")
    assert ("excludes zero" in text) is not (meaning == "includes zero")
    assert "`worse`" not in text
    assert "flatters" not in page(best=best)


def test_a_page_without_recipes() -> None:
    text = page()
    assert_says(text, "no recipe", "`base`")
    assert "nan" not in text


def test_the_table_has_a_row_for_each_variant_and_leaves_out_what_has_no_value() -> None:
    table = page(it=recipe("unresolved"), priced=recipe("tradeoff", **limits("safety_tax", 0.123, 0.098, 0.148)))
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in table.splitlines() if line.startswith("| `")}
    assert list(rows) == ["`base`", "`it`", "`priced`"]
    assert [cell.strip() for cell in rows["`base`"]] == [
        "10.0 [6.0, 16.0]",
        "",
        "35.0 [30.0, 40.0]",
        "",
        "",
        "",
        "5.0 [2.0, 12.0]",
        "",
    ]
    assert rows["`it`"][4].strip() == ""
    assert rows["`it`"][3].strip() == "0.4 [−1.2, 2.0]"
    assert rows["`priced`"][4].strip() == "0.12 [0.10, 0.15]"
    assert rows["`priced`"][7].strip() == "14.8 [13.0, 16.6]"


def test_what_people_said_of_the_judge() -> None:
    assert_says(page(), "None of these answers has a label made by a person")
    judged = limits("judge_error", 0.1, 0.05, 0.18) | {"judge_error_n": 100}
    assert_says(page(judged), "On 100 answers", "10.0 % [5.0, 18.0]", "too few")
    shares = {
        "judge_sensitivity": 0.9, "judge_sensitivity_n": 30, "judge_specificity": 0.8, "judge_specificity_n": 20,
    }  # fmt: skip
    corrected = limits("safety_corrected", 0.55, 0.4, 0.7)
    text = page(judged | shares | corrected, it=recipe("unresolved", **corrected))
    assert_says(text, "90.0 % of the 30 refusals", "80.0 % of the 20 others", "the same in every variant")
    assert text.count("its safety is 55.0 points [40.0, 70.0]") == 2


def test_the_confidence_of_the_intervals_is_that_of_params() -> None:
    assert_says(page(settings=SETTINGS.model_copy(update={"confidence": 0.9})), "90 % intervals")


def test_numbers_are_written_with_one_minus_sign_and_no_negative_zero() -> None:
    assert fixed(-1.25, 1) == "−1.2"
    assert fixed(-0.04, 1) == "0.0"
    assert "-" not in re.sub(r"[a-z]-|\d-point|---", "", page(it=recipe("unresolved")))


def test_projections_are_rounded_to_two_digits() -> None:
    assert [about(count) for count in (7, 43, 128, 2134, 99_950)] == ["7", "43", "130", "2,100", "100,000"]
