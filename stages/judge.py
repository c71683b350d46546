"""Responses -> `data/verdicts/<model>/<variant>.jsonl`.  `python -m stages.judge MODEL VARIANT`

A label for every answer, an outcome for every question. Runs no model that is measured: editing a judge
re-runs no inference.
"""

import argparse
from collections import Counter

from safety_tax.core.cells import is_empty, leave_empty
from safety_tax.core.console import run_stage, say
from safety_tax.core.rows import LABELS, LabelVerdict, write_rows
from safety_tax.core.workspace import RESPONSES, VERDICTS
from safety_tax.judging.gates import require_judged
from safety_tax.judging.verdicts import judge_variant
from safety_tax.params import load_params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("variant", help="`base`, or a recipe's name")
    arguments = parser.parse_args()
    params = load_params()
    if arguments.variant != "base":
        params.recipe(arguments.variant)
    folder = RESPONSES / arguments.model / arguments.variant
    output = VERDICTS / arguments.model / f"{arguments.variant}.jsonl"
    if is_empty(folder):
        leave_empty(f"judge: {arguments.model} {arguments.variant}", output)
        return
    judge = params.judge.load(params.run, params.prompting.date)
    verdicts = judge_variant(folder, params.model(arguments.model), judge)
    labelled = [verdict for verdict in verdicts if isinstance(verdict, LabelVerdict)]
    require_judged(labelled)
    write_rows(output, verdicts)
    counts = Counter(verdict.label for verdict in labelled)
    labels = ", ".join(f"{counts[label]} {label}" for label in LABELS if counts[label])
    say(f"judge: {arguments.model} {arguments.variant}, {labels}")


if __name__ == "__main__":
    run_stage(main)
