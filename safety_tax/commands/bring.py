"""Answers generated elsewhere -> what the judge reads.  `safety-tax bring MODEL base=FILE RECIPE=FILE`

A file holds one JSON object a line: `kind` (harmful, jailbreak, benign or problem), `prompt` and `response`, and of a
problem the right final `answer`. It may hold `group`, `benchmark`, `finish_reason` (stop or length) and `tokens`. All
files answer the same prompts. Replaces `data/benchmarks/` and the model's `data/responses/`; then
`dvc repro --single-item judge_model judge_base judge metrics plots` judges them and runs no model.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from safety_tax.core.cells import leave_empty
from safety_tax.core.console import say
from safety_tax.core.errors import PipelineError, did_you_mean
from safety_tax.core.files import folder_written_atomically
from safety_tax.core.rows import KINDS, write_rows
from safety_tax.core.workspace import BENCHMARKS, PARAMS_FILE, RESPONSES
from safety_tax.judging.given_answers import Brought, bring
from safety_tax.params import Params, load_params

NEXT = "dvc repro --single-item judge_model judge_base judge metrics plots"


def files_of(arguments: Sequence[str], params: Params) -> dict[str, Path]:
    """Variant -> its file, `base` first. Raises PipelineError unless every variant of the model's params has one."""
    variants = ["base", *params.recipes]
    given: dict[str, Path] = {}
    for argument in arguments:
        name, equals, path = argument.partition("=")
        if not equals or not path:
            raise PipelineError(f"Expected VARIANT=FILE, found {argument!r}; write it as base=answers/base.jsonl.")
        if name not in variants:
            raise PipelineError(
                f"Expected `base` or a recipe of {PARAMS_FILE}, found {name!r}; {did_you_mean(name, variants)}"
            )
        if name in given:
            raise PipelineError(f"Expected one file for {name}, found two; name one.")
        given[name] = Path(path)
    missing = [name for name in variants if name not in given]
    if missing:
        raise PipelineError(
            f"Expected a file for each of {', '.join(variants)}, found none for {missing[0]}; add {missing[0]}=FILE, "
            f"or remove that recipe from {PARAMS_FILE}."
        )
    return {name: given[name] for name in variants}


def write(model: str, brought: Brought) -> None:
    """Write the items and every variant's answers. There are no questions: those want scores of their options."""
    for kind in KINDS:
        write_rows(BENCHMARKS / f"{kind}.jsonl", brought.of_kind(kind))
    for name, answers in brought.answers.items():
        with folder_written_atomically(RESPONSES / model / name) as folder:
            write_rows(folder / "responses.jsonl", answers)
            write_rows(folder / "choices.jsonl", [])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model")
    parser.add_argument("files", nargs="+", metavar="VARIANT=FILE", help="`base` and every recipe, each with its file")


def run(arguments: argparse.Namespace) -> None:
    """The command."""
    params = load_params()
    own = params.of(arguments.model)
    brought = bring(files_of(arguments.files, own))
    write(arguments.model, brought)
    for name in [name for name in params.recipes if name not in own.recipes]:
        leave_empty(f"bring: {arguments.model} {name}", RESPONSES / arguments.model / name)
    counts = ", ".join(f"{len(of):,} {kind}" for kind in KINDS if (of := brought.of_kind(kind)))
    say(f"bring: {arguments.model}, {len(brought.answers)} variants, {counts}; next: {NEXT}")
