"""All verdicts of a model -> `metrics/<model>.json` and what explains it.  `python -m stages.metrics MODEL`

Writes, all in Git: the headline `metrics/<model>.json`; what people decide by, a file a variant, in `metrics/<model>/`,
which `dvc metrics show` lays out as one table for all models; `metrics/detail/<model>.json`;
`metrics/plots/<model>.json`; and `metrics/<model>.md`, the table with what it says in words.

Labels by people in `data/labels/<model>.jsonl` give the judge's error; those of a response that has changed since
do not count.
"""

import argparse

from safety_tax.core.console import console, run_stage, say
from safety_tax.core.files import folder_written_atomically, write_json, written_atomically
from safety_tax.core.rows import VERDICT, LabelVerdict, read_rows
from safety_tax.core.workspace import METRICS, VERDICTS
from safety_tax.params import load_params
from safety_tax.results.conditions import how_asked, how_donors_differ
from safety_tax.results.rounding import significant
from safety_tax.results.tables import (
    headline,
    model_results,
    one_line,
    plot_rows,
    read_present_labels,
    remove_left_over,
    told_date,
)
from safety_tax.results.terminal import table
from safety_tax.results.words import narrative, verdict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    name = parser.parse_args().model
    everything = load_params()
    params = everything.of(name)
    remove_left_over(name, ["base", *everything.recipes])  # DVC tracks those of the recipes for other models, too
    verdicts = {
        variant: read_rows(VERDICTS / name / f"{variant}.jsonl", VERDICT) for variant in ("base", *params.recipes)
    }
    tells_harm = any(isinstance(v, LabelVerdict) and v.harmful is not None for rows in verdicts.values() for v in rows)
    results = model_results(name, params, verdicts, read_present_labels(name, verdicts), tells_harm)
    with folder_written_atomically(METRICS / name) as folder:
        for variant, of in results.variants.items():
            write_json(folder / f"{variant}.json", one_line(of, results.items))
    headlines = {variant: headline(of) for variant, of in results.variants.items()}
    write_json(METRICS / f"{name}.json", significant(headlines))
    detail = results.model_dump(mode="json", exclude_none=True)
    write_json(METRICS / "detail" / f"{name}.json", significant(detail))
    write_json(METRICS / "plots" / f"{name}.json", significant(plot_rows(results)))
    with written_atomically(METRICS / f"{name}.md") as partial:
        page = narrative(results) + how_asked(params.model(name), told_date(verdicts["base"]))
        page += how_donors_differ(params.may_differ())
        partial.write_text(page, encoding="utf-8", newline="\n")
    items = sum(len(rows) for rows in verdicts.values())
    console.print(table([results], console, f"{name}, {results.size} size"))
    say(verdict(results).replace("`", ""))
    say(f"metrics: {name}, {len(verdicts)} variants, {items:,} verdicts")


if __name__ == "__main__":
    run_stage(main)
