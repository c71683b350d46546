"""All verdicts of a model -> `metrics/<model>.json` and what explains it.  `python -m stages.metrics MODEL`

Writes, all in Git: the headline `metrics/<model>.json`; its numbers without their limits, a file a variant, in
`metrics/<model>/`, which `dvc metrics show` lays out as one table; `metrics/detail/<model>.json`;
`metrics/plots/<model>.json`; and `metrics/<model>.md`, the table with what it says in words.

Labels by people in `data/labels/<model>.jsonl` give the judge's error; those of a response that has changed since
do not count.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.table import Table

from safety_tax.core.console import console, run_stage, say
from safety_tax.core.currencies import CURRENCIES
from safety_tax.core.files import folder_written_atomically, write_json, written_atomically
from safety_tax.core.rows import Verdict, read_rows
from safety_tax.judging.human_labels import LABELS, HumanLabel, Key, of_present_responses, read_labels
from safety_tax.params import Params, load_params
from safety_tax.results.compute import Verdicts, judge_result, recommended, variant_results
from safety_tax.results.estimate import ESTIMATE_ENDS, fixed, shown
from safety_tax.results.families import donors_alone, families, family_result
from safety_tax.results.rounding import significant
from safety_tax.results.variant import Flat, ModelResults, VariantResult
from safety_tax.results.words import how_asked, how_donors_differ, narrative, tax_cell, verdict

FOLDER = Path("metrics")
VERDICTS = Path("data/verdicts")
# What fits on a line of `dvc metrics show`: what people decide by, without limits.
ONE_LINE = (
    "safety_gain",
    *(key for c in CURRENCIES.values() for key in (c.loss, c.tax, c.status)),
    "net_benefit",
)
WITH_LIMITS = (
    "safety",
    "safety_gain",
    *(key for c in CURRENCIES.values() for key in (c.measure, c.loss, c.tax)),
    "harm_rate",
    "harm_drop",
    "net_benefit",
)
HEADLINE = (
    *(key + end for key in WITH_LIMITS for end in ESTIMATE_ENDS),
    *(c.status for c in CURRENCIES.values()),
    "choice",
    "over_refusal",
    "jailbreak_resistance",
    "degenerate",
    "looped",
    "unfinished",
    "unjudged",
)


def model_results(
    model: str, params: Params, verdicts: Verdicts, labels: dict[Key, HumanLabel], tells_harm: bool
) -> ModelResults:
    """Every number of a model; `verdicts` has `base` and the recipes of `params`. Raises PipelineError as its parts do.

    What `labels`, all of present responses, say of the judge is pooled over the variants.
    """
    settings = params.metrics
    judge = judge_result(verdicts, labels, settings.confidence)
    variants = variant_results(verdicts, params.model(model).utility_format, settings, judge)
    return ModelResults(
        model=model,
        size=params.size,
        judge=params.judge.name,
        tells_harm=tells_harm,
        confidence=settings.confidence,
        margin=settings.margin,
        price=settings.price,
        variants=variants,
        recommended=recommended(variants, settings.confidence),
        families=tuple(
            family_result(
                {member: params.recipes[member] for member in family}, variants, donors_alone(params.recipes, family)
            )
            for family in families(params.recipes)
        ),
        judge_agreement=judge,
    )


def headline(variant: VariantResult) -> Flat:
    """The keys that a diff of two commits should show."""
    numbers = variant.flat()
    return {key: numbers[key] for key in HEADLINE if key in numbers}


def one_line(variant: VariantResult) -> Flat:
    """What people decide by; the base, which has none of it, shows its safety."""
    numbers = variant.flat()
    return {key: numbers[key] for key in (*ONE_LINE, "safety") if key in numbers}


def plot_rows(results: ModelResults) -> list[Flat]:
    """One point a variant: the frontier, safety gained against what was lost in each currency."""
    keys = ["safety", "bits_per_byte", "over_refusal"]
    keys += [CURRENCIES[name].measure for name in results.currencies]
    rows = []
    for name, variant in results.variants.items():
        numbers = variant.flat()
        limits = (key + end for key in keys for end in ESTIMATE_ENDS)
        rows.append({"variant": name, **{key: numbers[key] for key in limits if key in numbers}})
    return rows


def remove_left_over(model: str, variants: Sequence[str]) -> None:
    """Remove verdicts of recipes that params.yaml does not have any more.

    DVC tracks the folder as one dependency, so a left-over would make a clean clone look changed. Its bytes stay in
    DVC's cache.
    """
    for path in sorted(path for path in (VERDICTS / model).glob("[!.]*.jsonl") if path.stem not in variants):
        path.unlink()
        say(f"  removed {path}: params.yaml has no recipe {path.stem!r} any more")


def read_present_labels(model: str, verdicts: Verdicts) -> dict[Key, HumanLabel]:
    """People's labels of the responses that the verdicts are of; says how many that is. None without a file."""
    path = LABELS / f"{model}.jsonl"
    labels = read_labels(path)
    shas = {
        (variant, row.id): row.response_sha for variant, rows in verdicts.items() for row in rows if row.response_sha
    }
    present = of_present_responses(labels, shas)
    if labels:
        other = len(labels) - len(present)
        say(f"  {path}: {len(present):,} labels of present responses; {other:,} of other ones, which do not count")
    return present


def told_date(verdicts: Iterable[Verdict]) -> str | None:
    """The day that the prompts hold; None where the chat template asks for none."""
    return next((verdict.told_date for verdict in verdicts if verdict.told_date), None)


def table(results: ModelResults) -> Table:
    """What a person reads first: what each recipe gained, and its tax in each currency."""
    caption = f"points of 100, {100 * results.confidence:g} % intervals; tax: points lost a point of safety gained"
    title = f"{results.model}, {results.size} size"
    found = Table(title=title, title_justify="left", caption=caption, caption_justify="left", box=SIMPLE_HEAD)
    found.add_column("variant", no_wrap=True)
    for column in ("safety", "gain"):
        found.add_column(column, no_wrap=True, justify="right")
    for name in results.currencies:
        found.add_column(f"{CURRENCIES[name].noun} tax")
    found.add_column("net benefit", no_wrap=True, justify="right")
    for name, variant in results.variants.items():
        gain = variant.effects.get("safety_gain")
        cells = [fixed(100 * variant.rates["safety"].value, 1), shown(gain) if gain else ""]
        cells += [tax_cell(of.paid.tax) if of.paid else "" for of in variant.currencies.values()]
        found.add_row(name, *cells, shown(variant.net_benefit.estimate) if variant.net_benefit else "")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    name = parser.parse_args().model
    params = load_params()
    params.model(name)
    variants = ["base", *params.recipes]
    remove_left_over(name, variants)
    verdicts = {variant: read_rows(VERDICTS / name / f"{variant}.jsonl", Verdict) for variant in variants}
    tells_harm = any(row.harmful is not None for rows in verdicts.values() for row in rows)
    results = model_results(name, params, verdicts, read_present_labels(name, verdicts), tells_harm)
    with folder_written_atomically(FOLDER / name) as folder:
        for variant, of in results.variants.items():
            write_json(folder / f"{variant}.json", significant(one_line(of)))
    headlines = {variant: headline(of) for variant, of in results.variants.items()}
    write_json(FOLDER / f"{name}.json", significant(headlines))
    detail = results.model_dump(mode="json", exclude_none=True)
    write_json(FOLDER / "detail" / f"{name}.json", significant(detail))
    write_json(FOLDER / "plots" / f"{name}.json", significant(plot_rows(results)))
    with written_atomically(FOLDER / f"{name}.md") as partial:
        used = {donor: params.may_differ(donor) for recipe in params.recipes.values() for donor in recipe.donors}
        page = narrative(results) + how_asked(params.model(name), told_date(verdicts["base"])) + how_donors_differ(used)
        partial.write_text(page, encoding="utf-8", newline="\n")
    items = sum(len(rows) for rows in verdicts.values())
    console.print(table(results))
    say(verdict(results).replace("`", ""))
    say(f"metrics: {name}, {len(verdicts)} variants, {items:,} verdicts")


if __name__ == "__main__":
    run_stage(main)
