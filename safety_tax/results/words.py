"""What the results of one model say, in words: what to choose, the table, and a paragraph for each variant."""

from safety_tax.core.currencies import CURRENCIES
from safety_tax.results.estimate import Estimate, fixed, shown
from safety_tax.results.variant import JudgeResult, ModelResults, Paid, TaxResult, VariantResult

# From these shares on, broken or cut-off answers are worth a sentence. They change no number.
MANY_BROKEN = 0.05
MANY_TRUNCATED = 0.25
BROKEN = {
    "degenerate": "say nothing (empty, repeating or no language), which is neither a refusal nor help",
    "looped": "end in repeating themselves",
    "unfinished": "are thoughts that did not end before the token limit, which is neither a refusal nor help",
    "unjudged": "are in a language that the judge does not know; they are left out",
}
LEFT_OUT = {"at_chance": "the base is not surely above guessing", "at_floor": "the base gets almost none right"}


def narrative(results: ModelResults) -> str:
    """A Markdown page."""
    paragraphs = [
        f"# {results.model}, {results.size} size",
        f"**{verdict(results)}**",
        _table(results),
        how_to_read(results),
        *(
            f"**`{name}`: {summary_of(recipe)}.** {' '.join(of_recipe(recipe, results))}"
            for name, recipe in results.recipes.items()
        ),
        f"**`base`.** {' '.join(of_base(results))}",
        f"**The judge.** {' '.join(of_judge(results))}",
    ]
    return "\n\n".join(paragraphs) + "\n"


def verdict(results: ModelResults) -> str:
    """Which recipe to choose, with what it costs in every currency; or that none is shown to be better than the base.

    The sentence that a person acts on. A recipe is never named as the choice without each of its losses.
    """
    if not results.recipes:
        return "There is no recipe to compare with the base."
    if results.recommended is not None:
        recipe = results.recipes[results.recommended]
        return f"Choose `{recipe.name}`: {finding(recipe, results)}"
    best = max(results.recipes.values(), key=lambda recipe: _net_benefit_of(recipe).value)
    if all(_net_benefit_of(recipe).below_zero for recipe in results.recipes.values()):
        opening = "Keep the base: every recipe is worth less at these prices."
    else:
        opening = "Keep the base: no recipe is shown to be better at these prices."
    return f"{opening} `{best.name}` comes nearest: {finding(best, results)}"


def summary_of(recipe: VariantResult) -> str:
    """The status in each currency that shows a loss: `tradeoff in helpfulness, unresolved in accuracy`."""
    said = [f"{paid.tax.status} in {CURRENCIES[name].noun}" for name, paid in recipe.paid.items()]
    return ", ".join(said).replace("_", " ") or "no currency shows a loss"


def tax_cell(tax: TaxResult) -> str:
    """`0.73 [0.51, 0.97] tradeoff`; limits alone where the sign is not known; the status alone without a gain."""
    status = tax.status.replace("_", " ")
    if tax.estimate is not None:
        return f"{shown(tax.estimate, 1, 2)} {status}"
    if tax.low is not None and tax.high is not None:
        return f"[{fixed(tax.low, 2)}, {fixed(tax.high, 2)}] {status}"
    return status


def about(count: int) -> str:
    """A projected number of items, to two digits: `2,100`."""
    return f"{round(count, min(2 - len(str(count)), 0)):,}"


def _net_benefit_of(recipe: VariantResult) -> Estimate:
    assert recipe.net_benefit is not None
    return recipe.net_benefit.estimate


def _points(estimate: Estimate, sign: int = 1) -> str:
    return shown(estimate, 100 * sign, unit=" points")


def _more_or_fewer(loss: Estimate) -> str:
    """`41.2 fewer [28.9, 51.6]` of a loss, `1.0 more [−2.0, 4.0]` of its opposite."""
    word, sign = ("fewer", 1) if loss.value >= 0 else ("more", -1)
    return shown(loss, 100 * sign, unit=f" {word}")


def finding(recipe: VariantResult, results: ModelResults) -> str:
    """What a recipe gained, each of its losses, and what that is worth; begins with "it"."""
    word, sign = ("more", 1) if recipe.gain.value >= 0 else ("fewer", -1)
    said = [f"it refuses {shown(recipe.gain, 100 * sign, unit=f' {word}')} of 100 harmful prompts than the base"]
    for name, result in recipe.currencies.items():
        if result.paid is None:
            continue
        if result.standing == "measurable":
            said.append(CURRENCIES[name].does.format(_more_or_fewer(result.paid.loss)))
        else:
            said.append(f"its loss of {CURRENCIES[name].noun} cannot be measured ({LEFT_OUT[result.standing]})")
    joined = f"{', '.join(said[:-1])} and {said[-1]}" if len(said) > 1 else said[0]
    return f"{joined}. {_worth(recipe, results)}"


def _worth(recipe: VariantResult, results: ModelResults) -> str:
    benefit = _net_benefit_of(recipe)
    words = f"Net benefit {_points(benefit)} of safety"
    if benefit.low <= 0 <= benefit.high:
        return f"{words}, which may be nothing."
    if benefit.value > 0 and results.recommended != recipe.name:
        if recipe.dominated_by:
            return f"{words}, but {_dominators(recipe)} it."
        return f"{words}, which may be chance, as the best of {len(results.recipes)}."
    return f"{words}."


def _dominators(recipe: VariantResult) -> str:
    names = ", ".join(f"`{name}`" for name in recipe.dominated_by)
    return f"{names} {'dominates' if len(recipe.dominated_by) == 1 else 'dominate'}"


def _table(results: ModelResults) -> str:
    nouns = [CURRENCIES[name].noun for name in results.currencies]
    columns = ["variant", "safety", "gain"]
    for noun in nouns:
        columns += [noun, f"{noun} lost", f"{noun} tax"]
    lines = [[*columns, "net benefit"], ["---"] * (len(columns) + 1)]
    for name, variant in results.variants.items():
        gain = variant.effects.get("safety_gain")
        cells = [f"`{name}`", shown(variant.rates["safety"]), shown(gain) if gain else ""]
        for result in variant.currencies.values():
            paid = result.paid
            cells += [shown(result.value), *((shown(paid.loss), tax_cell(paid.tax)) if paid else ("", ""))]
        benefit = variant.net_benefit
        lines.append([*cells, shown(benefit.estimate) if benefit else ""])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def how_to_read(results: ModelResults) -> str:
    """What the numbers are of, and in which units."""
    base = results.base
    level = f"{100 * results.confidence:g}"
    shares = [f"safety is the share of {base.rates['safety'].n:,} harmful prompts that are refused"]
    for name, result in base.currencies.items():
        currency = CURRENCIES[name]
        shares.append(f"{currency.noun} of {result.value.n:,} {currency.items} {currency.done}")
    prices = ", ".join(f"{100 * results.price[name]:g} of {CURRENCIES[name].noun}" for name in results.currencies)
    said = (
        f"Numbers are points of 100, with {level} % intervals in brackets: {'; '.join(shares)}. Gain and loss are "
        "against the base on the same items; a limit below zero means the opposite. A tax is points lost for each "
        "point of safety gained. Net benefit is the gain less each loss divided by its price, in points of safety; "
        f"100 points of safety are priced at {prices}."
    )
    if base.effects.get("jailbreak_gain") or "jailbreak_resistance" in base.rates:
        rate = base.rates["jailbreak_resistance"]
        bound = (
            "" if results.tells_harm else " This is a lower bound: an answer that evades is neither refusal nor harm."
        )
        said += f" The base refuses {shown(rate)} of 100 jailbreak prompts.{bound}"
    return said


def of_recipe(recipe: VariantResult, results: ModelResults) -> list[str]:
    """The gain, what it cost in each currency, then what else is worth knowing."""
    gain = recipe.gain
    if gain.above_zero:
        sentences = [f"Safer by {_points(gain)}."]
    elif gain.below_zero:
        sentences = [f"Less safe by {_points(gain, -1)}."]
    else:
        sentences = [f"A gain in safety is not shown: it changed by {_points(gain)}."]
    for name, result in recipe.currencies.items():
        noun = CURRENCIES[name].noun
        if result.standing != "measurable":
            reason = LEFT_OUT[result.standing]
            level = f" ({fixed(100 * result.chance, 1)} points)" if result.standing == "at_chance" else ""
            sentences.append(f"{noun.capitalize()} cannot show a loss, because {reason}{level}.")
        elif result.paid is not None:
            sentences += _of_currency(name, result.paid, gain.above_zero, results.margin)
    rise = recipe.effects.get("bits_per_byte_rise")
    knowledge = recipe.currencies.get("knowledge")
    shows = knowledge is not None and knowledge.paid is not None and knowledge.paid.loss.above_zero
    if rise is not None and rise.above_zero and not shows:
        sentences.append(
            "An early warning: bits per byte, the model's surprise at the text of the right answers, rose by "
            f"{shown(rise, 1, 3)}; that is damage which accuracy does not show."
        )
    over_refusal = recipe.effects.get("over_refusal_rise")
    if over_refusal is not None and over_refusal.above_zero:
        sentences.append(
            f"It refuses more harmless prompts: over-refusal rose by {_points(over_refusal)}, "
            f"to {fixed(100 * recipe.rates['over_refusal'].value, 1)}."
        )
    drop = recipe.effects.get("harm_drop")
    if drop is not None:
        sentences.append(f"Of 100 harmful and jailbreak prompts {shown(drop)} fewer answers are harmful.")
    sentences += _broken_answers(recipe) + _corrected(recipe)
    if recipe.dominated_by:
        reason = "surely better in one thing and on the whole, with no sign of being worse in any"
        sentences.append(f"{_dominators(recipe)} it: {reason}.")
    return [*sentences, f"Net benefit: {_points(_net_benefit_of(recipe))}."]


def _of_currency(name: str, paid: Paid, gained: bool, margin: float) -> list[str]:
    """What happened to one currency, and what that makes of the gain."""
    currency, loss = CURRENCIES[name], paid.loss
    direction, sign = ("fell", 1) if loss.value >= 0 else ("rose", -1)
    moved = f"{currency.noun.capitalize()} {direction} by {_points(loss, sign)}"
    if not gained:
        noise = "that may be noise" if loss.low <= 0 <= loss.high else "that is more than noise"
        return [f"{moved}; {noise}."]
    points = f"{100 * margin:g}-point margin"
    match paid.tax.status:
        case "win":
            return [f"{moved}: nothing was paid."]
        case "free":
            return [f"{moved}: a loss as large as the {points} is ruled out, which counts as free."]
        case "tradeoff":
            assert paid.tax.estimate is not None
            price = f"a price of {shown(paid.tax.estimate, 1, 2)} points for each point of safety"
            return [f"{moved}: {price}."]
        case _:
            limits = f"the price lies between {fixed(paid.tax.low or 0, 2)} and {fixed(paid.tax.high or 0, 2)}"
            unsettled = f"{moved}: neither a loss nor free at the {points} is shown; {limits}."
            return [unsettled, _what_would_settle(paid, margin, currency.items), *_resolution(paid, currency.items)]


def _what_would_settle(paid: Paid, margin: float, items: str) -> str:
    if paid.items_to_settle is None:
        return "No number of items would settle it while the estimate stays where it is."
    # Nearer to the margin than to zero, the interval shrinks away from zero first.
    outcome = "as a loss" if (paid.loss.low + paid.loss.high) / 2 > margin / 2 else "as free"
    return (
        f"If the estimate and its variance stayed as they are, about {about(paid.items_to_settle)} {items} in all "
        f"would just settle it, {outcome}."
    )


def _resolution(paid: Paid, items: str) -> list[str]:
    asked = f"With {paid.loss.n:,} {items}"
    if paid.resolves is None:
        return [f"{asked} no loss, however large, would be found reliably."]
    return [f"{asked} a loss of {fixed(100 * paid.resolves, 1)} points would be found four times in five."]


def _broken_answers(variant: VariantResult) -> list[str]:
    sentences = []
    for key, meaning in BROKEN.items():
        rate = variant.rates.get(key)
        if rate is not None and rate.value >= MANY_BROKEN:
            sentences.append(f"{fixed(100 * rate.value, 1)} % of its answers {meaning}.")
    truncated = variant.rates["truncated"].value
    if truncated >= MANY_TRUNCATED:
        sentences.append(
            f"{fixed(100 * truncated, 1)} % of its answers were cut off at the token limit; what would have followed "
            "is not judged."
        )
    return sentences


def _corrected(variant: VariantResult) -> list[str]:
    if variant.safety_corrected is None:
        return []
    return [f"Corrected for the judge's errors, its safety is {_points(variant.safety_corrected)}."]


def of_base(results: ModelResults) -> list[str]:
    """Sentences on the unmerged model."""
    base = results.base
    values = [f"{CURRENCIES[name].noun} {_points(result.value)}" for name, result in base.currencies.items()]
    sentences = [f"Safety {_points(base.rates['safety'])}, {', '.join(values)}."]
    return sentences + _broken_answers(base) + _corrected(base)


def of_judge(results: ModelResults) -> list[str]:
    """Sentences on who labelled the answers, and how often that is wrong."""
    judge = results.judge_agreement
    opening = f"Answers were labelled by `{results.judge}`."
    if judge is None:
        return [opening, "No person has labelled any of these answers, so how often the judge errs is not known."]
    return [
        opening,
        f"On {judge.error.n:,} answers labelled by a person, the judge gave another label to "
        f"{shown(judge.error, unit=' %')}.",
        _correction(judge, results),
    ]


def _correction(judge: JudgeResult, results: ModelResults) -> str:
    if results.base.safety_corrected is None or judge.sensitivity is None or judge.specificity is None:
        return "The labels are too few, or the judge too poor on them, to correct safety by."
    return (
        f"Of the harmful prompts' answers it found {fixed(100 * judge.sensitivity, 1)} % of the "
        f"{judge.sensitivity_n:,} refusals, and was right about {fixed(100 * judge.specificity, 1)} % of the "
        f"{judge.specificity_n:,} others; the corrected rates take these errors to be the same in every variant."
    )
