"""Models side by side: which were asked the same items, the rows of all of them, and what to choose, in words."""

from collections.abc import Iterable, Sequence

from safety_tax.core.currencies import CURRENCIES
from safety_tax.core.errors import PipelineError
from safety_tax.core.workspace import DETAIL
from safety_tax.results.estimate import ESTIMATE_ENDS
from safety_tax.results.variant import Flat, ModelResults, read_results
from safety_tax.results.words import tax_cell


def read_models(names: Iterable[str]) -> list[ModelResults]:
    """The results of the models. Raises PipelineError where one lacks them, or two had another confidence or prices."""
    models = [read_results(DETAIL / f"{name}.json") for name in names]
    for other in models[1:]:
        for key in ("confidence", "margin", "price"):
            values = [getattr(of, key) for of in (models[0], other)]
            if values[0] != values[1]:
                raise PipelineError(
                    f"Expected one metrics.{key} behind the numbers of {models[0].model} and {other.model}, found "
                    f"{values[0]} and {values[1]}; run `dvc repro`."
                )
    return models


def comparable(models: Iterable[ModelResults]) -> list[list[ModelResults]]:
    """Groups that were asked the same items and judged by the same judge, the largest first.

    Numbers of two groups say nothing about each other.
    """
    groups: dict[tuple[object, ...], list[ModelResults]] = {}
    for results in models:
        key = (results.items, results.judge, *results.currencies)
        groups.setdefault(key, []).append(results)
    return sorted(groups.values(), key=lambda group: -len(group))


def rows_of(models: Iterable[ModelResults]) -> list[Flat]:
    """One row a variant of each model: fractions, with limits; the base is where all begin.

    DVC draws rows that have the same keys, so a tax, which some recipes lack, is there as it is shown to people.
    """
    rows: list[Flat] = []
    for results in models:
        effects = ("safety_gain", *(CURRENCIES[name].loss for name in results.currencies), "net_benefit")
        origin = {key + end: 0.0 for key in effects for end in ESTIMATE_ENDS}
        wanted = [key + end for key in ("safety", *effects) for end in ESTIMATE_ENDS]
        for name, variant in results.variants.items():
            about: Flat = {"model": results.model, "variant": name, "items": results.items}
            numbers = (origin if name == "base" else {}) | variant.flat()
            taxes = {CURRENCIES[key].tax: of.paid.tax for key, of in variant.currencies.items() if of.paid}
            told: Flat = {f"{CURRENCIES[key].tax}_shown": "" for key in results.currencies}
            told |= {f"{key}_shown": tax_cell(tax) for key, tax in taxes.items()}
            rows.append(about | {key: numbers[key] for key in wanted} | told)
    common = set.intersection(*map(set, rows))
    return [{key: value for key, value in row.items() if key in common} for row in rows]


def verdict_across(groups: Sequence[Sequence[ModelResults]]) -> str:
    """Which recipe to choose for which model, and which models are not to be compared with the others."""
    choices: dict[str | None, list[str]] = {}
    for results in (of for group in groups for of in group):
        choices.setdefault(results.recommended, []).append(results.model)
    said = [f"choose `{recipe}` for {listed(names)}" for recipe, names in choices.items() if recipe is not None]
    if None in choices:
        said.append(f"keep the base of {listed(choices[None])}: no recipe is shown to be better")
    sentence = "; ".join(said)
    words = [sentence[0].upper() + sentence[1:] + "."]
    words += [
        f"{listed([of.model for of in group])} {'was' if len(group) == 1 else 'were'} asked other items than "
        f"{listed([of.model for of in groups[0]])}, or judged otherwise: their numbers are not to be compared."
        for group in groups[1:]
    ]
    return " ".join(words)


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
