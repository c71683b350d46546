"""A model's results as files have them: the headline, a line of `dvc metrics show`, the rows of a plot."""

import hashlib
import json
from collections.abc import Iterable, Sequence

from safety_tax.core.console import say
from safety_tax.core.currencies import CURRENCIES
from safety_tax.core.rows import AnswerOutcome, Verdict
from safety_tax.core.workspace import LABELS, VERDICTS
from safety_tax.judging.human_labels import HumanLabel, Key, of_present_responses, read_labels
from safety_tax.params import Params
from safety_tax.results.compute import Verdicts, judge_result, recommended, variant_results
from safety_tax.results.estimate import ESTIMATE_ENDS
from safety_tax.results.families import donors_alone, families, family_result
from safety_tax.results.variant import Flat, ModelResults, VariantResult

# A line of `dvc metrics show`, which DVC lays out as wide as its names and numbers are: with all currencies, and a path
# of 36 letters, it is as wide as a terminal of 120. Fractions; a tax is points for a point.
ONE_LINE = {"safety": "safety", **{c.tax: c.column for c in CURRENCIES.values()}, "net_benefit": "benefit"}
DECIMALS = 3
ITEMS_SHOWN = 4
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
        items=digest_of_items(verdicts["base"]),
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


def digest_of_items(verdicts: Iterable[Verdict]) -> str:
    """16 hex digits that two runs share when they asked the same items, in whatever order and format."""
    asked = sorted((row.kind, row.id) for row in verdicts)
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]


def one_line(variant: VariantResult, items: str) -> Flat:
    """What people decide by, and the first letters of `items`: lines that differ in these are not to be compared."""
    numbers = variant.flat()
    line = {short: round(float(numbers[key]), DECIMALS) + 0.0 for key, short in ONE_LINE.items() if key in numbers}
    return line | {"items": items[:ITEMS_SHOWN]}


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
