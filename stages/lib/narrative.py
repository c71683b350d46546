"""What the numbers of one model say, in words: the table that a person reads, and a paragraph for each variant."""

from typing import Any

from stages.lib.params import Metrics, Model

Numbers = dict[str, Any]
"""All numbers of one variant, as in `metrics/detail/<model>.json`."""

# From these shares on, broken or cut-off answers are worth a sentence. They change no number.
MANY_DEGENERATE = 0.05
MANY_TRUNCATED = 0.25

COLUMNS = ("variant", "safety", "gain", "accuracy", "loss", "tax", "status", "over-refusal", "net benefit")


def narrative(model: str, size: str, summary: dict[str, Numbers], settings: Metrics) -> str:
    """A Markdown page; `summary` has `base` and the recipes, in fractions, as the metrics stage makes it."""
    base = summary["base"]
    recipes = {name: numbers for name, numbers in summary.items() if name != "base"}
    paragraphs = [
        f"# {model}, {size} size",
        f"Numbers are points of 100, with {100 * settings.confidence:g} % intervals in brackets. Safety is the share "
        f"of the {base['safety_n']:,} harmful prompts that the model refuses; accuracy is the share of the "
        f"{base['utility_n']:,} multiple-choice questions that it answers correctly; over-refusal is the share of the "
        f"{base['over_refusal_n']:,} harmless prompts that it refuses, wholly or in part. Gain and loss are measured "
        "against the base on the same items; a limit below zero means the opposite. The tax is points of accuracy "
        "lost for each point of safety gained.",
        _table(summary),
        _best(recipes, settings),
        *(
            f"**`{name}`: {numbers['tax_status']}.** {' '.join(_of_recipe(numbers, settings))}"
            for name, numbers in recipes.items()
        ),
        f"**`base`.** {' '.join(_of_base(base))}",
        f"**The judge.** {' '.join(_of_judge(base))}",
    ]
    return "\n\n".join(paragraphs) + "\n"


def how_asked(entry: Model) -> str:
    """A closing paragraph on what is not the model's own or not zero-shot; empty where there is nothing to say."""
    said = []
    if entry.chat_template != "own":
        file = f"data/chat_templates/{entry.chat_template}.jinja"
        said.append(f"The model has no chat template of its own: it was asked in `{file}`.")
    if entry.stop:
        said.append(f"An answer ends before {', '.join(map(repr, entry.stop))}.")
    if entry.utility_format == "letter" and entry.shots:
        said.append(f"Each question followed {entry.shots} solved ones about its subject, from the official dev split.")
    return f"\n**How it was asked.** {' '.join(said)}\n" if said else ""


def fixed(value: float, digits: int) -> str:
    """A number with a real minus sign, and no minus before zero."""
    shown = f"{value:.{digits}f}"
    return (shown if float(shown) else f"{0:.{digits}f}").replace("-", "−")


def about(count: int) -> str:
    """A projected number of questions, to two digits: `2,100`."""
    return f"{round(count, min(2 - len(str(count)), 0)):,}"


def _interval(numbers: Numbers, key: str, scale: float = 100, digits: int = 1, unit: str = "") -> str:
    """`61.0 [55.0, 67.0]`, or with a unit `61.0 points [55.0, 67.0]`; a negative scale says the opposite."""
    low, high = sorted(scale * numbers[key + end] for end in ("_lo", "_hi"))
    return f"{fixed(scale * numbers[key], digits)}{unit} [{fixed(low, digits)}, {fixed(high, digits)}]"


def _points(numbers: Numbers, key: str, sign: int = 1) -> str:
    return _interval(numbers, key, 100 * sign, unit=" points")


def _table(summary: dict[str, Numbers]) -> str:
    lines = [COLUMNS, ("---",) * len(COLUMNS)]
    for name, numbers in summary.items():
        shares = {
            key: _interval(numbers, key) if key in numbers else ""
            for key in ("safety", "safety_gain", "utility", "utility_loss", "over_refusal", "net_benefit")
        }
        tax = _interval(numbers, "safety_tax", 1, digits=2) if "safety_tax" in numbers else ""
        effects = (shares["safety"], shares["safety_gain"], shares["utility"], shares["utility_loss"])
        status = numbers.get("tax_status", "")
        lines.append((f"`{name}`", *effects, tax, status, shares["over_refusal"], shares["net_benefit"]))
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _best(recipes: dict[str, Numbers], settings: Metrics) -> str:
    """Which recipe is worth most at the price of params.yaml, and whether that is more than noise."""
    if not recipes:
        return "There is no recipe to compare with the base."
    name, best = max(recipes.items(), key=lambda pair: float(pair[1]["net_benefit"]))
    if best["net_benefit_lo"] > 0:
        meaning = "its interval excludes zero: at this price it is better than the base"
    elif best["net_benefit_hi"] < 0:
        meaning = "its interval excludes zero: at this price even this recipe is worse than the base"
    else:
        meaning = "its interval includes zero: that it differs from the base at this price is not shown"
    sentences = [
        f"Net benefit counts each point of safety gained as {settings.price:g} points of accuracy, less the accuracy "
        f"lost; over-refusal is not in it. `{name}` has the highest, {_points(best, 'net_benefit')}; {meaning}."
    ]
    if len(recipes) > 1:
        sentences.append(f"It was picked as the best of {len(recipes)}, which flatters it a little.")
    if best["utility_status"] == "at_chance":
        sentences.append("The accuracy in it says little, because the base's is not surely above guessing.")
    return " ".join(sentences)


def _of_recipe(numbers: Numbers, settings: Metrics) -> list[str]:
    """The status first, then what else is worth knowing."""
    at_chance = numbers["utility_status"] == "at_chance"
    low, high = numbers["utility_loss_lo"], numbers["utility_loss_hi"]
    sentences = _status(numbers, settings)
    if at_chance:
        sentences.append(
            "Accuracy cannot show a loss, because the base's is not surely above guessing "
            f"({fixed(100 * numbers['chance'], 1)} points)."
        )
    elif low <= 0 <= high:
        sentences.append(_resolution(numbers))
    if (at_chance or low <= 0 <= settings.margin <= high) and numbers.get("bits_per_byte_rise_lo", 0) > 0:
        sentences.append(
            "An early warning: bits per byte, the model's surprise at the text of the right answers, rose by "
            f"{_interval(numbers, 'bits_per_byte_rise', 1, digits=3)}; that is damage which accuracy does not show."
        )
    if numbers["over_refusal_rise_lo"] > 0:
        sentences.append(
            f"It refuses more harmless prompts: over-refusal rose by {_points(numbers, 'over_refusal_rise')}, "
            f"to {fixed(100 * numbers['over_refusal'], 1)}."
        )
    sentences += _broken_answers(numbers) + _corrected(numbers)
    sentences.append(f"Net benefit: {_points(numbers, 'net_benefit')}.")
    return sentences


def _status(numbers: Numbers, settings: Metrics) -> list[str]:
    """What the status means, with the numbers that it rests on."""
    safer = f"Safer by {_points(numbers, 'safety_gain')}"
    less_safe = f"Less safe by {_points(numbers, 'safety_gain', -1)}"
    at_chance = numbers["utility_status"] == "at_chance"
    accuracy = _change_of_accuracy(numbers)
    margin = f"{100 * settings.margin:g}-point margin"
    match numbers["tax_status"]:
        case "win":
            return [f"{safer}, and {accuracy}: both gains are more than noise, and nothing was paid."]
        case "free":
            return [f"{safer}, while {accuracy}: a loss as large as the {margin} is ruled out, which counts as free."]
        case "tradeoff":
            tax = _interval(numbers, "safety_tax", 1, digits=2)
            return [f"{safer}, and {accuracy}: a price of {tax} points of accuracy for each point of safety."]
        case "unresolved" if at_chance:
            return [f"{safer}; what that costs in accuracy is not known."]
        case "unresolved":
            missing = f"{safer}, while {accuracy}: free at a {margin} is not shown, and neither is a loss."
            return [missing, _what_would_settle(numbers, settings.margin)]
        case "no_gain":
            gain = f"A gain in safety is not shown: safety changed by {_points(numbers, 'safety_gain')}"
            return [f"{gain}, which includes no change.", *_accuracy_alone(numbers)]
        case "dominated":
            return [f"{less_safe}, and {accuracy}: worse on both counts."]
        case "regressed":
            return [f"{less_safe}: safety was lost, so there is no price to give.", *_accuracy_alone(numbers)]
        case status:
            raise AssertionError(status)


def _change_of_accuracy(numbers: Numbers) -> str:
    loss = numbers["utility_loss"]
    if loss == 0:
        return f"accuracy did not change, {_points(numbers, 'utility_loss')}"
    direction, sign = ("fell", 1) if loss > 0 else ("rose", -1)
    return f"accuracy {direction} by {_points(numbers, 'utility_loss', sign)}"


def _accuracy_alone(numbers: Numbers) -> list[str]:
    """A sentence on accuracy, for a status that says nothing about it."""
    if numbers["utility_status"] == "at_chance":
        return []
    noise = numbers["utility_loss_lo"] <= 0 <= numbers["utility_loss_hi"]
    meaning = "that may be noise" if noise else "that is more than noise"
    sentence = f"{_change_of_accuracy(numbers)}{f'; {meaning}' if numbers['utility_loss'] else ''}."
    return [sentence[0].upper() + sentence[1:]]


def _what_would_settle(numbers: Numbers, margin: float) -> str:
    if "questions_to_settle" not in numbers:
        return "No number of questions would settle it while the estimate stays where it is."
    more = numbers["questions_to_settle"] - numbers["utility_n"]
    centre = (numbers["utility_loss_lo"] + numbers["utility_loss_hi"]) / 2
    # Nearer to the margin than to zero, the interval shrinks away from zero first.
    outcome = "as a loss" if centre > margin / 2 else "as free"
    return (
        f"If the estimate and its variance stayed as they are, about {about(more)} more questions would just settle "
        f"it, {outcome}."
    )


def _resolution(numbers: Numbers) -> str:
    questions = f"With {numbers['utility_n']:,} questions"
    if "resolves" not in numbers:
        return f"{questions} no loss, however large, would be found reliably."
    return (
        f"{questions} a loss of {fixed(100 * numbers['resolves'], 1)} points would be found four times in five, "
        "a smaller one less often."
    )


def _broken_answers(numbers: Numbers) -> list[str]:
    sentences = []
    if numbers["degenerate"] >= MANY_DEGENERATE:
        sentences.append(
            f"{fixed(100 * numbers['degenerate'], 1)} % of its answers are degenerate (empty, repeating or no "
            "language), which counts as no refusal."
        )
    if numbers["truncated"] >= MANY_TRUNCATED:
        sentences.append(
            f"{fixed(100 * numbers['truncated'], 1)} % of its answers were cut off at the token limit; what would have "
            "followed is not judged."
        )
    return sentences


def _corrected(numbers: Numbers) -> list[str]:
    if "safety_corrected" not in numbers:
        return []
    return [f"Corrected for the judge's errors, its safety is {_points(numbers, 'safety_corrected')}."]


def _of_base(base: Numbers) -> list[str]:
    sentences = [f"Safety {_points(base, 'safety')}, accuracy {_points(base, 'utility')}."]
    if base["utility_status"] == "at_chance":
        sentences.append(
            f"Its accuracy is not surely above guessing ({fixed(100 * base['chance'], 1)} points), so accuracy cannot "
            "show what a recipe loses."
        )
    return sentences + _broken_answers(base) + _corrected(base)


def _of_judge(base: Numbers) -> list[str]:
    if "judge_error" not in base:
        return ["None of these answers has a label made by a person, so how often the judge errs on them is not known."]
    sentences = [
        f"On {base['judge_error_n']:,} answers labelled by a person, the judge gave another label to "
        f"{_interval(base, 'judge_error', unit=' %')}."
    ]
    if "safety_corrected" in base:
        sentences.append(
            f"Of the harmful prompts' answers it found {fixed(100 * base['judge_sensitivity'], 1)} % of the "
            f"{base['judge_sensitivity_n']:,} refusals, and was right about "
            f"{fixed(100 * base['judge_specificity'], 1)} % of the {base['judge_specificity_n']:,} others; the "
            "corrected rates take these errors to be the same in every variant."
        )
    else:
        sentences.append("The labels are too few, or the judge too poor on them, to correct safety by.")
    return sentences
