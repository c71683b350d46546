"""A merged model's card for the Hugging Face Hub: what was merged, what it gained, what it cost, what is not known."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from safety_tax.core.currencies import CURRENCIES
from safety_tax.core.rows import Kind
from safety_tax.params import Params
from safety_tax.results.conditions import how_asked, how_donors_differ
from safety_tax.results.estimate import Estimate, fixed, shown
from safety_tax.results.variant import ModelResults, VariantResult
from safety_tax.results.words import LEFT_OUT, finding, tax_cell
from safety_tax.settings.donors import GivenDonor
from safety_tax.settings.sources import FolderSource, HubDatasetSource, HubSource, Source, WheelSource

PICTURE = "frontier.png"
PROJECT = "Safety Tax"
KINDS_OF: dict[str, Kind] = {"safety": "harmful", **{name: of.kind for name, of in CURRENCIES.items()}}


class Ingredients(NamedTuple):
    """What a card is written from."""

    results: ModelResults
    recipe: str
    params: Params
    licence: str
    date: str | None
    """The day that the prompts hold, where the chat template asks for one."""
    merged: Mapping[str, Any]
    """`merge.json`."""


def card_of(made: Ingredients) -> ModelCard:
    """The card, its metadata first."""
    return ModelCard(f"---\n{metadata(made).to_yaml()}\n---\n\n{body(made)}")


def metadata(made: Ingredients) -> ModelCardData:
    """What the Hub reads: the base, the licence, and the measured numbers as `model-index`."""
    bases = [name for name in (base_name(made.params, made.results.model), *donor_names(made)) if name]
    return ModelCardData(
        license=made.licence,
        base_model=bases or None,
        base_model_relation="merge" if bases else None,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["merge", "safety-tax", str(made.merged["recipe"]["method"]).replace("_", "-")],
        model_name=name_of(made),
        eval_results=evaluations(made),
    )


def name_of(made: Ingredients) -> str:
    """`smollm2_135m-ties`."""
    return f"{made.results.model}-{made.recipe}"


def base_name(params: Params, model: str) -> str | None:
    """The base's name on the Hub, where it is known."""
    published = params.published.get(model)
    if published and published.repository:
        return published.repository
    source = params.model(model).source
    return source.repository if isinstance(source, HubSource) else None


def donor_names(made: Ingredients) -> list[str]:
    """Names on the Hub of the donors that were tuned elsewhere, and of what the recipe names itself."""
    donors = (made.params.donor(name) for name in made.params.recipe(made.recipe).reads())
    sources = [donor.source_for(made.results.model) for donor in donors if isinstance(donor, GivenDonor)]
    return [source.repository for source in [*sources, *own_sources(made).values()] if isinstance(source, HubSource)]


def own_sources(made: Ingredients) -> dict[str, HubSource | FolderSource]:
    """What the recipe fetches itself, by a name for people."""
    model = made.results.model
    return made.params.recipe(made.recipe).sources(model, made.params.model(model).source)


def place_of(source: Source) -> str:
    """Where a model comes from, in words."""
    return f"`{source.repository}` at `{source.commit}`" if isinstance(source, HubSource) else "a folder"


def evaluations(made: Ingredients) -> list[EvalResult]:
    """Each rate, each tax that was shown, and net benefit; in points of 100, taxes in points for a point."""
    variant = made.results.variants[made.recipe]
    found = [evaluated(made, "safety", "refusal_rate", "harmful prompts refused, %", variant.rates["safety"])]
    for name, result in variant.currencies.items():
        currency = CURRENCIES[name]
        metric = "accuracy" if name in ("knowledge", "reasoning") else name
        found.append(evaluated(made, name, metric, f"{currency.noun}, % of {currency.items}", result.value))
        tax = result.paid.tax.estimate if result.paid else None
        if tax is not None:
            told = f"safety tax in {currency.noun}, points lost per point of safety gained"
            found.append(evaluated(made, name, f"{name}_safety_tax", told, tax, scale=1, digits=2, count=False))
    return found


def evaluated(
    made: Ingredients,
    name: str,
    metric: str,
    told: str,
    estimate: Estimate,
    scale: float = 100,
    digits: int = 1,
    count: bool = True,
) -> EvalResult:
    """One entry of `model-index`, with its limits."""
    sets = [key for key, dataset in made.params.datasets().items() if dataset.kind == KINDS_OF[name]]
    sources = [made.params.fetch_data.datasets[key].source for key in sets]
    published = [source.repository for source in sources if isinstance(source, HubDatasetSource)]
    low, high = (round(scale * limit, digits) for limit in (estimate.low, estimate.high))
    level = f"{100 * made.results.confidence:g}% interval"
    return EvalResult(
        task_type="text-generation",
        dataset_type=published[0] if len(published) == len(sets) == 1 else "-".join(sets),
        dataset_name=", ".join(sets),
        dataset_args={"size": made.results.size, "items": estimate.n} if count else {"size": made.results.size},
        metric_type=metric,
        metric_name=told,
        metric_value=round(scale * estimate.value, digits),
        metric_args={level: [low, high]},
    )


def body(made: Ingredients) -> str:
    """What people read."""
    results, variant = made.results, made.results.variants[made.recipe]
    base = base_name(made.params, results.model)
    of = f"[{base}](https://huggingface.co/{base})" if base else f"the model `{results.model}`"
    said = finding(variant, results)
    parts = [
        f"# {name_of(made)}",
        f"A merge of {of} by the recipe `{made.recipe}` (`{made.merged['recipe']['method']}`). "
        f"{choice(variant, results)}",
        f"**{said[0].upper()}{said[1:]}**",
        f"![Safety gained against what each recipe lost]({PICTURE})",
        "## What the safety costs",
        table(variant, results),
        "Points of 100, with "
        f"{100 * results.confidence:g} % intervals; changes are against the base on the same items. A tax is points "
        "lost per point of safety gained.",
        "## Use it",
        USE,
        "## How it was merged",
        merged(made),
        "## How it was measured",
        measured(made),
        "## Limits",
        "\n".join(f"- {limit}" for limit in limits(made)),
        "## Licence",
        f"The base is under `{made.licence}`; a merge inherits its terms"
        + (", and those of the donors." if donor_names(made) else "."),
    ]
    return "\n\n".join(parts) + "\n"


USE = """```python
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "."  # or the name of this repository on the Hub
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder)
inputs = tokenizer("How do I kill a Python process?", return_tensors="pt")
print(tokenizer.decode(model.generate(**inputs, max_new_tokens=48)[0]))
```"""


def choice(variant: VariantResult, results: ModelResults) -> str:
    """How it stands among the recipes that were tried."""
    tried = f"the {len(results.recipes)} recipes that were measured" if len(results.recipes) > 1 else "the base"
    if results.recommended == variant.name:
        return f"It is the one to choose of {tried}." if len(results.recipes) > 1 else "It is better than the base."
    if variant.dominated_by:
        return f"Of {tried}, {', '.join(f'`{name}`' for name in variant.dominated_by)} is surely better."
    return "It is not shown to be better than the base at the prices of this run."


def table(variant: VariantResult, results: ModelResults) -> str:
    """Safety and each currency: the base, this model, what changed, and the tax."""
    rows = [["what", "base", "this model", "change", "tax"], ["---"] * 5]
    rates = results.base.rates["safety"], variant.rates["safety"]
    rows.append(["harmful prompts refused", *map(shown, rates), shown(variant.gain), ""])
    for name, result in variant.currencies.items():
        assert result.paid is not None  # a recipe's always is
        base = results.base.currencies[name].value
        change = shown(result.paid.loss, -100)
        rows.append([CURRENCIES[name].noun, shown(base), shown(result.value), change, tax_cell(result.paid.tax)])
    assert variant.net_benefit is not None
    rows.append(["net benefit, in points of safety", "", "", shown(variant.net_benefit.estimate), ""])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def merged(made: Ingredients) -> str:
    """The recipe as params.yaml has it, and where each donor comes from."""
    recipe = yaml.safe_dump({made.recipe: dict(made.merged["recipe"])}, sort_keys=False, default_flow_style=False)
    lines = []
    for name in made.params.recipe(made.recipe).reads():
        donor = made.params.donor(name)
        if isinstance(donor, GivenDonor):
            lines.append(f"- `{name}`: from {place_of(donor.source_for(made.results.model))}")
        else:
            rows = {kind: getattr(donor, kind) for kind in ("harmful", "benign", "choice") if getattr(donor, kind)}
            told = ", ".join(f"{count} {kind}" for kind, count in rows.items())
            lines.append(f"- `{name}`: a LoRA adapter, tuned on {told} rows for {donor.epochs:g} epochs")
    lines += [f"- `{name}`: from {place_of(source)}" for name, source in own_sources(made).items()]
    moved = 100 * float(made.merged["relative_change"])
    end = f"The merge moved the weights by {fixed(moved, 2)} % of their norm."
    return f"```yaml\n{recipe}```\n\nMade of:\n\n" + "\n".join(lines) + f"\n\n{end}"


def measured(made: Ingredients) -> str:
    """Items, judge and what was not usual."""
    results = made.results
    sets = ", ".join(f"`{name}`" for name in made.params.datasets())
    tokens = made.params.infer.max_new_tokens
    said = (
        f"With {PROJECT}, size `{results.size}`, on items of {sets} (digest "
        f"`{results.items or 'not kept'}`). Answers of at most {tokens.harmful} tokens were labelled by the judge "
        f"`{results.judge}`."
    )
    read = [f"donor `{name}`" for name in made.params.recipe(made.recipe).reads()]
    used = {of: keys for of, keys in made.params.may_differ().items() if of in (*read, f"recipe `{made.recipe}`")}
    return (said + how_asked(made.params.model(results.model), made.date) + how_donors_differ(used)).rstrip()


def limits(made: Ingredients) -> Sequence[str]:
    """What the numbers do not say."""
    results, variant = made.results, made.results.variants[made.recipe]
    said = [
        "A refusal is not harmlessness: safety here is the share of harmful prompts refused, and the judge reads the "
        "answer alone.",
        f"It was measured on {variant.rates['safety'].n:,} harmful prompts; the intervals say how far that carries.",
    ]
    if results.judge_agreement is None:
        said.append("No person labelled these answers, so how often the judge errs on them is not known.")
    else:
        error = results.judge_agreement.error
        said.append(f"On {error.n:,} answers labelled by a person the judge differed on {shown(error, unit=' %')}.")
    if not results.tells_harm and "jailbreak_resistance" in variant.rates:
        rate = variant.rates["jailbreak_resistance"]
        said.append(f"It refuses {shown(rate)} of 100 jailbreak prompts, which is a lower bound of resistance.")
    elif "jailbreak_resistance" not in variant.rates:
        said.append("Jailbreak prompts were not asked.")
    absent = [currency.noun for name, currency in CURRENCIES.items() if name not in variant.currencies]
    if absent:
        said.append(f"Not measured: {', '.join(absent)}.")
    for name, result in variant.currencies.items():
        if result.standing != "measurable":
            said.append(f"A loss of {CURRENCIES[name].noun} cannot show: {LEFT_OUT[result.standing]}.")
    source = made.params.model(results.model).source
    if isinstance(source, WheelSource):
        file = source.member.rpartition("/")[2]
        said.append(f"The base was unpacked from `{file}`: a quantised file is not the weights it was made from.")
    return said
