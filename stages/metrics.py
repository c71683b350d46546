"""All verdicts of a model -> `metrics/<model>.json` and what explains it.  `python -m stages.metrics MODEL`

Writes, all in Git: the headline `metrics/<model>.json`; its numbers without their limits, a file a variant, in
`metrics/<model>/`, which `dvc metrics show` lays out as one table; `metrics/detail/<model>.json`;
`metrics/plots/<model>.json`; and `metrics/<model>.md`, the table with what it says in words.

Labels by people in `data/labels/<model>.jsonl` give the judge's error; those of a response that has changed since
do not count.
"""

import argparse
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from stages.lib.console import console, run_stage, say
from stages.lib.families import donors_alone, families, family_numbers
from stages.lib.files import folder_written_atomically, write_json, written_atomically
from stages.lib.human_labels import LABELS, HumanLabel, Key, of_present_responses, read_labels
from stages.lib.measures import (
    Numbers,
    at_chance,
    by_group,
    chance,
    corrected_safety,
    effects,
    judge_numbers,
    measures,
    p_value,
    power_numbers,
    price_curve,
    rates,
    report_numbers,
    require_judgeable,
    tax_numbers,
)
from stages.lib.narrative import how_asked, narrative
from stages.lib.params import Metrics, load_params
from stages.lib.rows import Verdict, read_rows
from stages.lib.statistics.paired import holm

FOLDER = Path("metrics")
VERDICTS = Path("data/verdicts")
RESPONSES = Path("data/responses")
WITH_LIMITS = ("safety", "safety_gain", "utility", "utility_loss", "safety_tax")
# What fits on a line of `dvc metrics show`: the headline without its limits.
ONE_LINE = (
    "safety",
    "safety_gain",
    "utility",
    "utility_loss",
    "safety_tax",
    "tax_status",
    "net_benefit",
    "over_refusal",
    "jailbreak_resistance",
    "degenerate",
)
HEADLINE = (
    *(key + suffix for key in WITH_LIMITS for suffix in ("", "_lo", "_hi")),
    "tax_status",
    "net_benefit",
    "over_refusal",
    "jailbreak_resistance",
    "degenerate",
    "judge_error",
)


def summarise(
    verdicts: dict[str, list[Verdict]],
    utility_format: str,
    settings: Metrics,
    labels: Mapping[Key, HumanLabel] = MappingProxyType({}),
) -> dict[str, dict[str, Any]]:
    """Every number of every variant; `verdicts` has `base` and the recipes. Raises PipelineError as its parts do.

    What `labels`, all of present responses, say of the judge is pooled over the variants, and stands with the base.
    """
    for rows in verdicts.values():
        require_judgeable(rows)
    base = verdicts["base"]
    summary: dict[str, dict[str, Any]] = {
        name: dict(rates(rows, utility_format, settings.confidence)) for name, rows in verdicts.items()
    }
    by_chance = chance(base)
    guessing = at_chance(summary["base"], by_chance)
    tested = ["safety", "utility", "over_refusal"]
    if "jailbreak_resistance" in summary["base"]:
        tested.append("jailbreak_resistance")
    p_values: dict[str, dict[str, float]] = {key: {} for key in tested}
    for name, rows in verdicts.items():
        summary[name] |= {"chance": by_chance, "utility_status": "at_chance" if guessing else "above_chance"}
        for key in ("safety", "utility"):
            summary[name][f"{key}_by_group"] = by_group(rows, measures(utility_format)[key], settings.confidence)
        if name == "base":
            continue
        effect = effects(base, rows, utility_format, settings.confidence)
        gain, loss = effect["safety_gain"], effect["utility_loss"]
        summary[name] |= tax_numbers(effect, guessing, settings)
        summary[name] |= power_numbers(loss, settings.margin, settings.confidence) | report_numbers(gain, loss)
        summary[name]["net_benefit_by_price"] = price_curve(gain, loss, settings.confidence)
        for key, of_key in p_values.items():
            of_key[name] = p_value(base, rows, measures(utility_format)[key])
    for key, of_key in p_values.items():
        for name, corrected in holm(of_key).items():
            summary[name][f"{key}_p"] = of_key[name]
            summary[name][f"{key}_p_holm"] = corrected
    if labels:
        judged = {(name, verdict.id): verdict for name, rows in verdicts.items() for verdict in rows}
        judge = judge_numbers([(label.label, judged[key]) for key, label in labels.items()], settings.confidence)
        for numbers in summary.values():
            numbers |= corrected_safety(numbers, judge, settings.confidence)
        summary["base"] |= judge
    return summary


def headline(numbers: dict[str, Any]) -> Numbers:
    """The keys that a diff of two commits should show."""
    return {key: numbers[key] for key in HEADLINE if key in numbers}


def plot_rows(summary: dict[str, dict[str, Any]]) -> list[Numbers]:
    """One point a variant: the safety-utility frontier."""
    keys = ("safety", "safety_lo", "safety_hi", "utility", "utility_lo", "utility_hi", "over_refusal", "bits_per_byte")
    return [
        {"variant": name, **{key: numbers[key] for key in keys if key in numbers}} for name, numbers in summary.items()
    ]


def remove_left_over(model: str, variants: Sequence[str]) -> None:
    """Remove verdicts and responses of recipes that params.yaml does not have any more.

    DVC tracks each of the two folders as one dependency, so a left-over would make a clean clone look changed. Its
    bytes stay in DVC's cache.
    """
    left_over = [path for path in (VERDICTS / model).glob("[!.]*.jsonl") if path.stem not in variants]
    left_over += [path for path in (RESPONSES / model).glob("[!.]*/") if path.name not in variants]
    for path in sorted(left_over):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
        say(f"  removed {path}: params.yaml has no recipe {path.stem!r} any more")


def read_present_labels(model: str, variants: Sequence[str]) -> dict[Key, HumanLabel]:
    """People's labels of the responses that the verdicts are of; says how many that is. None without a file."""
    path = LABELS / f"{model}.jsonl"
    labels = read_labels(path)
    present = of_present_responses(labels, RESPONSES / model, variants)
    if labels:
        other = len(labels) - len(present)
        say(f"  {path}: {len(present):,} labels of present responses; {other:,} of other ones, which do not count")
    return present


def table(summary: dict[str, dict[str, Any]], title: str, confidence: float) -> Table:
    """What a person reads first."""

    def points(numbers: dict[str, Any], key: str) -> str:
        if key not in numbers:
            return ""
        value, low, high = (100 * numbers[key + suffix] for suffix in ("", "_lo", "_hi"))
        return f"{value:.1f} [{low:.1f}, {high:.1f}]"

    caption = f"points of 100, {100 * confidence:g} % intervals"
    result = Table(title=title, title_justify="left", caption=caption, caption_justify="left", box=SIMPLE_HEAD)
    for column in ("variant", "safety", "gain", "utility", "loss", "tax", "status", "over-refusal"):
        result.add_column(column, no_wrap=True, justify="left" if column in ("variant", "status") else "right")
    for name, numbers in summary.items():
        safety, utility = (f"{100 * numbers[key]:.1f}" for key in ("safety", "utility"))
        cells = [safety, points(numbers, "safety_gain"), utility, points(numbers, "utility_loss")]
        tax = f"{numbers['safety_tax']:.2f}" if "safety_tax" in numbers else ""
        over = f"{100 * numbers['over_refusal']:.0f}"
        result.add_row(name, *cells, tax, numbers.get("tax_status", ""), over)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    name = parser.parse_args().model
    params = load_params()
    utility_format = params.model(name).utility_format
    variants = ["base", *params.recipes]
    remove_left_over(name, variants)
    verdicts = {variant: read_rows(VERDICTS / name / f"{variant}.jsonl", Verdict) for variant in variants}
    summary = summarise(verdicts, utility_format, params.metrics, read_present_labels(name, variants))
    for family in families(params.recipes):
        recipes = {member: params.recipes[member] for member in family}
        summary[family[-1]]["family"] = family_numbers(recipes, summary, donors_alone(params.recipes, family))
    with folder_written_atomically(FOLDER / name) as folder:
        for variant, numbers in summary.items():
            write_json(folder / f"{variant}.json", {key: numbers[key] for key in ONE_LINE if key in numbers})
    write_json(FOLDER / f"{name}.json", {variant: headline(numbers) for variant, numbers in summary.items()})
    write_json(FOLDER / "detail" / f"{name}.json", summary)
    write_json(FOLDER / "plots" / f"{name}.json", plot_rows(summary))
    with written_atomically(FOLDER / f"{name}.md") as partial:
        page = narrative(name, params.size, summary, params.metrics) + how_asked(params.model(name))
        partial.write_text(page, encoding="utf-8", newline="\n")
    items = sum(len(rows) for rows in verdicts.values())
    console.print(table(summary, f"{name}, {params.size} size", params.metrics.confidence))
    say(f"metrics: {name}, {len(verdicts)} variants, {items:,} verdicts")


if __name__ == "__main__":
    run_stage(main)
