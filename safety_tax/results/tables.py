"""A model's results as files have them: the headline, the rows of a plot, the table that a person reads first."""

from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from safety_tax.core.console import say
from safety_tax.core.currencies import CURRENCIES
from safety_tax.core.rows import AnswerOutcome, Verdict
from safety_tax.core.workspace import LABELS, VERDICTS
from safety_tax.judging.human_labels import HumanLabel, Key, of_present_responses, read_labels
from safety_tax.params import Params
from safety_tax.results.compute import Verdicts, judge_result, recommended, variant_results
from safety_tax.results.estimate import ESTIMATE_ENDS, fixed, shown
from safety_tax.results.families import donors_alone, families, family_result
from safety_tax.results.variant import Flat, ModelResults, VariantResult
from safety_tax.results.words import tax_cell

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
        (variant, row.id): row.response_sha
        for variant, rows in verdicts.items()
        for row in rows
        if isinstance(row, AnswerOutcome) and row.response_sha
    }
    present = of_present_responses(labels, shas)
    if labels:
        other = len(labels) - len(present)
        say(f"  {path}: {len(present):,} labels of present responses; {other:,} of other ones, which do not count")
    return present


def told_date(verdicts: Iterable[Verdict]) -> str | None:
    """The day that the prompts hold; None where the chat template asks for none."""
    answers = (verdict for verdict in verdicts if isinstance(verdict, AnswerOutcome))
    return next((answer.told_date for answer in answers if answer.told_date), None)


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
