"""Results of all models of params.yaml -> `metrics/models.json`, a row a variant.  `python -m stages.models`

In Git; `dvc plots show` and `dvc plots diff` draw it. Where there are several models it prints them side by side, and
those that were asked other items apart.
"""

import argparse

from safety_tax.core.console import console, run_stage, say
from safety_tax.core.files import write_json
from safety_tax.core.workspace import METRICS
from safety_tax.params import load_params
from safety_tax.results.rounding import significant
from safety_tax.results.side_by_side import comparable, read_models, rows_of, verdict_across
from safety_tax.results.terminal import table


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    models = read_models(load_params().models)
    rows = rows_of(models)
    write_json(METRICS / "models.json", significant(rows))
    groups = comparable(models)
    if len(models) > 1:
        for group in groups:
            console.print(table(group, console, f"{len(group)} of {len(models)} models, {group[0].size} size"))
        say(verdict_across(groups).replace("`", ""))
    say(f"models: {len(models)} models, {len(rows)} variants in {METRICS / 'models.json'}")


if __name__ == "__main__":
    run_stage(main)
