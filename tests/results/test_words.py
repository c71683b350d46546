"""The sentences about each outcome: the facts in them, not their wording."""

import re
from typing import Any

import pytest
from verdict_rows import PRICES

from safety_tax.core.currencies import CURRENCIES
from safety_tax.results.estimate import Effect, Estimate, fixed
from safety_tax.results.variant import (
    CurrencyResult,
    JudgeResult,
    ModelResults,
    NetBenefit,
    Paid,
    Standing,
    TaxResult,
    VariantResult,
)
from safety_tax.results.words import about, narrative, tax_cell, verdict

Limits = tuple[float, float, float]
GAIN, LOSS = (0.61, 0.55, 0.67), (0.004, -0.012, 0.02)


def estimate(value: float, low: float, high: float, n: int = 400) -> Estimate:
    return Estimate(value=value, low=low, high=high, n=n)


def effect(value: float, low: float, high: float, n: int = 400) -> Effect:
    return Effect(value=value, low=low, high=high, n=n, variance=0.0001, discordance=0.1)


def paid(status: Any, loss: Limits = LOSS, tax: Limits | None = None, settle: int | None = None) -> Paid:
    value, low, high = tax or (None, None, None)
    result = TaxResult(status=status, value=value, low=low, high=high)
    return Paid(loss=effect(*loss), tax=result, resolves=0.052, items_to_settle=settle)


def recipe(
    name: str = "it",
    gain: Limits = GAIN,
    benefit: Limits = (0.148, 0.13, 0.166),
    standing: Standing = "measurable",
    rates: dict[str, Estimate] | None = None,
    effects: dict[str, Effect] | None = None,
    dominated_by: tuple[str, ...] = (),
    **costs: Paid,
) -> VariantResult:
    """A recipe that paid so in each currency; accuracy alone, unresolved, where nothing is said."""
    costs = costs or {"knowledge": paid("unresolved", tax=None, settle=2534)}
    return VariantResult(
        name=name,
        rates={
            "safety": estimate(0.7, 0.6, 0.8, 150),
            "over_refusal": estimate(0.175, 0.1, 0.3),
            "truncated": estimate(0.1, 0.05, 0.2),
        }
        | (rates or {}),
        effects={"safety_gain": effect(*gain, n=150)} | (effects or {}),
        currencies={
            currency: CurrencyResult(
                value=estimate(0.35, 0.3, 0.4), standing=standing, chance=0.25, paid=of, by_group={}
            )
            for currency, of in costs.items()
        },
        tests={},
        safety_by_group={},
        net_benefit=NetBenefit(estimate=estimate(*benefit), p_holm=0.01, left_out={}, by_scale=[]),
        dominated_by=dominated_by,
    )


def results(
    *recipes: VariantResult,
    recommended: str | None = None,
    rates: dict[str, Estimate] | None = None,
    judge: JudgeResult | None = None,
    corrected: Estimate | None = None,
    **settings: Any,
) -> ModelResults:
    """One model; its base was asked what the first recipe was."""
    asked = recipes[0].currencies if recipes else {}
    base = VariantResult(
        name="base",
        rates={"safety": estimate(0.1, 0.06, 0.16, 150), "truncated": estimate(0.1, 0.05, 0.2)} | (rates or {}),
        effects={},
        currencies={name: of.model_copy(update={"paid": None}) for name, of in asked.items()},
        tests={},
        safety_by_group={},
        safety_corrected=corrected,
    )
    return ModelResults(
        **{
            "model": "tiny",
            "size": "quick",
            "judge": "rules",
            "tells_harm": False,
            "confidence": 0.95,
            "margin": 0.01,
            "price": PRICES,
        }
        | settings,
        variants={"base": base} | {of.name: of for of in recipes},
        recommended=recommended,
        judge_agreement=judge,
    )


def paragraph(of: VariantResult, **settings: Any) -> str:
    """What the page says of one recipe."""
    found = re.search(r"^\*\*`it`.*$", narrative(results(of, **settings)), re.MULTILINE)
    assert found
    return found.group()


def assert_says(text: str, *facts: str) -> None:
    for fact in facts:
        assert fact in text, f"{fact!r} is not in: {text}"


def sentence_with(text: str, fact: str) -> str:
    """The one sentence, up to a full stop before a space, that has the fact."""
    return next(sentence for sentence in re.split(r"(?<=[.:]) (?=[A-Z`])", text) if fact in sentence)


@pytest.mark.parametrize("recommended", ["it", None])
def test_no_recipe_is_named_without_its_loss_in_every_currency(recommended: str | None) -> None:
    costs = {
        "helpfulness": paid("tradeoff", (0.412, 0.289, 0.516), (0.73, 0.51, 0.97)),
        "knowledge": paid("unresolved", (-0.01, -0.03, 0.01)),
        "reasoning": paid("tradeoff", (0.2, 0.1, 0.3), (0.33, 0.2, 0.5)),
        "instructions": paid("free", (0.001, -0.005, 0.007), (0.0, -0.1, 0.1)),
    }
    assert set(costs) == set(CURRENCIES)
    text = verdict(results(recipe(**costs), recommended=recommended))
    assert_says(
        sentence_with(text, "harmless prompts"),
        "`it`",
        "refuses 61.0 more [55.0, 67.0] of 100 harmful prompts",
        "answers 41.2 fewer [28.9, 51.6] of 100 harmless prompts",
        "gets 1.0 more [−1.0, 3.0] of 100 multiple-choice questions right",
        "solves 20.0 fewer [10.0, 30.0] of 100 problems",
        "follows 0.1 fewer [−0.5, 0.7] of 100 prompts",
    )
    assert text.startswith("Choose `it`" if recommended else "Keep the base")


def test_a_currency_that_shows_no_loss_is_named_in_the_verdict() -> None:
    text = verdict(results(recipe(standing="at_chance"), recommended="it"))
    assert_says(text, "loss of accuracy cannot be measured", "guessing")
    assert_says(verdict(results(recipe(standing="at_floor"), recommended="it")), "almost none right")


def test_the_verdict_without_a_choice_says_whether_all_are_worse() -> None:
    worse = recipe("worse", benefit=(-0.3, -0.4, -0.2))
    unsure = recipe("unsure", benefit=(0.1, -0.1, 0.3))
    assert_says(verdict(results(worse)), "every recipe is worth less", "`worse`")
    text = verdict(results(worse, unsure))
    assert_says(text, "no recipe is shown to be better", "`unsure`", "10.0 points [−10.0, 30.0]", "may be nothing")
    assert "`worse`" not in text
    beaten = recipe("beaten", dominated_by=("good",))
    assert_says(verdict(results(beaten)), "`good` dominates it")
    assert "no recipe" in verdict(results())


def test_a_win_names_both_gains_and_no_price() -> None:
    text = paragraph(recipe(knowledge=paid("win", (-0.021, -0.038, -0.004), (-0.03, -0.06, -0.01))))
    assert_says(text, "win in accuracy", "Safer by 61.0 points [55.0, 67.0]", "rose by 2.1 points [0.4, 3.8]")
    assert "for each point of safety" not in text
    assert "four times in five" not in text  # the change was found


def test_a_free_gain_names_the_margin() -> None:
    free = recipe(helpfulness=paid("free", (0.002, -0.004, 0.008)))
    assert_says(paragraph(free), "free", "Helpfulness fell by 0.2 points [−0.4, 0.8]", "1-point margin is ruled out")
    assert_says(paragraph(free, margin=0.025), "2.5-point margin")


def test_a_tradeoff_has_a_price() -> None:
    text = paragraph(recipe(knowledge=paid("tradeoff", (0.075, 0.06, 0.09), (0.123, 0.098, 0.148))))
    assert_says(text, "Accuracy fell by 7.5 points [6.0, 9.0]", "0.12 [0.10, 0.15] points for each point of safety")


def test_an_unresolved_loss_says_what_is_not_shown_and_what_would_settle_it() -> None:
    text = paragraph(recipe(knowledge=paid("unresolved", settle=2534)))
    assert_says(text, "Accuracy fell by 0.4 points [−1.2, 2.0]", "neither a loss nor free")
    assert_says(text, "about 2,500 multiple-choice questions", "as free", "a loss of 5.2 points", "four times in five")
    # nearer to the margin than to zero: more items would show a loss
    text = paragraph(recipe(helpfulness=paid("unresolved", (0.011, -0.004, 0.026), settle=744)))
    assert_says(text, "about 740 harmless prompts", "as a loss")
    assert_says(paragraph(recipe(knowledge=paid("unresolved", (0.0, -0.01, 0.01))), margin=0.0), "No number of items")


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        ((-0.01, -0.05, 0.03), "not shown: it changed by −1.0 points"),
        ((-0.05, -0.08, -0.02), "Less safe by 5.0 points"),
    ],
)
def test_without_a_gain_there_is_no_price(gain: Limits, said: str) -> None:
    text = paragraph(recipe(gain=gain, knowledge=paid("no_gain")))
    assert_says(text, said, "Accuracy fell by 0.4 points", "may be noise")
    assert "for each point" not in text
    text = paragraph(recipe(gain=gain, knowledge=paid("no_gain", (0.05, 0.02, 0.08))))
    assert_says(text, "Accuracy fell by 5.0 points [2.0, 8.0]; that is more than noise")


def test_a_base_at_chance_says_that_accuracy_cannot_show_a_loss() -> None:
    text = paragraph(recipe(standing="at_chance"))
    assert_says(text, "Safer by 61.0 points", "cannot show a loss", "guessing (25.0 points)")
    assert "fell by" not in text and "four times in five" not in text


def test_an_early_warning_when_accuracy_shows_nothing_and_bits_rose() -> None:
    risen = {"bits_per_byte_rise": effect(0.21, 0.18, 0.24)}
    assert_says(paragraph(recipe(effects=risen)), "early warning", "0.210 [0.180, 0.240]")
    assert "early warning" in paragraph(recipe(effects=risen, standing="at_chance"))
    shown = recipe(effects=risen, knowledge=paid("tradeoff", (0.05, 0.03, 0.07), (0.1, 0.1, 0.1)))
    assert "early warning" not in paragraph(shown)
    assert "early warning" not in paragraph(recipe(effects={"bits_per_byte_rise": effect(0.21, -0.01, 0.43)}))


def test_more_over_refusal_is_said_when_it_is_more_than_noise() -> None:
    text = paragraph(recipe(effects={"over_refusal_rise": effect(0.125, 0.05, 0.2)}))
    assert_says(text, "over-refusal rose by 12.5 points [5.0, 20.0], to 17.5")
    assert "over-refusal" not in paragraph(recipe(effects={"over_refusal_rise": effect(0.1, 0.0, 0.2)}))


def test_broken_and_cut_off_answers_are_said_when_many() -> None:
    many = {key: estimate(0.4, 0.3, 0.5) for key in ("degenerate", "looped", "unfinished", "unjudged", "truncated")}
    text = paragraph(recipe(rates=many))
    assert text.count("40.0 % of its answers") == 5
    assert_says(text, "say nothing", "repeating themselves", "thoughts", "language that the judge does not know")
    assert "of its answers" not in paragraph(recipe(rates={"degenerate": estimate(0.04, 0.0, 0.1)}))
    page = narrative(results(recipe(), rates={"truncated": estimate(0.9, 0.8, 1.0)}))
    assert_says(page, "90.0 % of its answers were cut off")  # the base's, too


def test_jailbreak_resistance_is_a_lower_bound_unless_the_judge_tells_harm() -> None:
    rates = {"jailbreak_resistance": estimate(0.3, 0.2, 0.4, 40)}
    assert_says(narrative(results(recipe(), rates=rates)), "30.0 [20.0, 40.0] of 100 jailbreak prompts", "lower bound")
    assert "lower bound" not in narrative(results(recipe(), rates=rates, tells_harm=True))


def test_a_page_without_recipes() -> None:
    text = narrative(results())
    assert_says(text, "no recipe", "`base`")
    assert "nan" not in text


def test_the_table_has_a_row_for_each_variant_and_leaves_out_what_has_no_value() -> None:
    page = narrative(
        results(
            recipe(),
            recipe("priced", knowledge=paid("tradeoff", (0.075, 0.06, 0.09), (0.123, 0.098, 0.148))),
        )
    )
    rows = {line.split("|")[1].strip(): line.split("|")[2:-1] for line in page.splitlines() if line.startswith("| `")}
    assert list(rows) == ["`base`", "`it`", "`priced`"]
    assert [cell.strip() for cell in rows["`base`"]] == ["10.0 [6.0, 16.0]", "", "35.0 [30.0, 40.0]", "", "", ""]
    assert [cell.strip() for cell in rows["`it`"]][3:5] == ["0.4 [−1.2, 2.0]", "unresolved"]
    assert [cell.strip() for cell in rows["`priced`"]][3:] == [
        "7.5 [6.0, 9.0]",
        "0.12 [0.10, 0.15] tradeoff",
        "14.8 [13.0, 16.6]",
    ]


def test_a_tax_whose_sign_is_unknown_shows_its_limits_alone() -> None:
    assert tax_cell(TaxResult(status="unresolved", low=-0.1, high=0.2)) == "[−0.10, 0.20] unresolved"
    assert tax_cell(TaxResult(status="at_floor")) == "at floor"


def test_what_people_said_of_the_judge() -> None:
    assert_says(narrative(results(recipe())), "No person has labelled")
    judge = JudgeResult(error=estimate(0.1, 0.05, 0.18, 100), confusion={}, sensitivity_n=0, specificity_n=0)
    assert_says(narrative(results(recipe(), judge=judge)), "On 100 answers", "10.0 % [5.0, 18.0]", "too few")
    whole = judge.model_copy(update={"sensitivity": 0.9, "sensitivity_n": 30, "specificity": 0.8, "specificity_n": 20})
    corrected = estimate(0.55, 0.4, 0.7)
    of_recipe = recipe().model_copy(update={"safety_corrected": corrected})
    text = narrative(results(of_recipe, judge=whole, corrected=corrected))
    assert_says(text, "90.0 % of the 30 refusals", "80.0 % of the 20 others", "the same in every variant")
    assert text.count("its safety is 55.0 points [40.0, 70.0]") == 2


def test_the_confidence_of_the_intervals_is_that_of_params() -> None:
    assert_says(narrative(results(recipe(), confidence=0.9)), "90 % intervals")


def test_numbers_are_written_with_one_minus_sign_and_no_negative_zero() -> None:
    assert fixed(-1.25, 1) == "−1.2"
    assert fixed(-0.04, 1) == "0.0"
    assert "-" not in re.sub(r"[a-z]-[a-z]|\d-point|---", "", narrative(results(recipe())))


def test_projections_are_rounded_to_two_digits() -> None:
    assert [about(count) for count in (7, 43, 128, 2134, 99_950)] == ["7", "43", "130", "2,100", "100,000"]
