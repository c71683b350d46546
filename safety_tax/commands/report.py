"""A model's run as one HTML file to look at, offline.  `safety-tax report [MODEL] [--output FILE]`

The table and what it says in words, the figures, and every item with the answers of the base and of another variant.
Without MODEL, a file for each model of params.yaml, in `reports/`.
"""

import argparse
from pathlib import Path

from safety_tax.core.console import say
from safety_tax.core.errors import PipelineError
from safety_tax.core.files import written_atomically
from safety_tax.core.rows import KINDS, VERDICT, Response, read_items, read_rows
from safety_tax.core.workspace import BENCHMARKS, METRICS, REPORTS, RESPONSES, VERDICTS
from safety_tax.params import Params, load_params
from safety_tax.results.report.items import item_index, text_chunks
from safety_tax.results.report.page import render
from safety_tax.results.variant import ModelResults, read_results

# In the order of a reader's questions; others follow by name.
FIGURES = ("frontier", "over_refusal", "net_benefit", "safety_by_category", "utility_by_area", "answer_lengths")


def read_figures(folder: Path) -> dict[str, bytes]:
    """SVG files of a folder by their name in words. Raises PipelineError when there is none."""
    files = sorted(folder.glob("*.svg"))
    if not files:
        raise PipelineError(f"Expected figures in {folder}, found none; run `dvc repro`.")
    files.sort(key=lambda file: FIGURES.index(file.stem) if file.stem in FIGURES else len(FIGURES))
    return {file.stem.replace("_", " "): file.read_bytes() for file in files}


def is_lower_bound(results: ModelResults) -> bool:
    """Whether jailbreak resistance was measured, by a judge that does not tell an evasive answer from a harmful one."""
    return not results.tells_harm and "jailbreak_resistance" in results.base.rates


def report(model: str, params: Params) -> str:
    """The page of one model. Raises PipelineError when the catalogue lacks it, or a part of its run is missing."""
    params.model(model)
    words = METRICS / f"{model}.md"
    if not words.is_file():
        raise PipelineError(f"Expected the results of {model!r} in {words}, found no such file; run `dvc repro`.")
    prompts = [prompt for kind in KINDS for prompt in read_items(BENCHMARKS, kind)]
    variants = ["base", *params.recipes]
    verdicts = {name: read_rows(VERDICTS / model / f"{name}.jsonl", VERDICT) for name in variants}
    responses = {name: read_rows(RESPONSES / model / name / "responses.jsonl", Response) for name in variants}
    return render(
        model,
        words.read_text(encoding="utf-8"),
        {name: recipe.model_dump(exclude_unset=True) for name, recipe in params.recipes.items()},
        read_figures(METRICS / "figures" / model),
        item_index(prompts, verdicts, params.model(model).utility_format),
        text_chunks(prompts, responses),
        is_lower_bound(read_results(METRICS / "detail" / f"{model}.json")),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", nargs="?", help="a model of params.yaml; all of them when left out")
    parser.add_argument("--output", type=Path, help="the file to write; reports/MODEL.html when left out")


def run(arguments: argparse.Namespace) -> None:
    """The command."""
    params = load_params()
    models = [arguments.model] if arguments.model else list(params.models)
    if arguments.output and len(models) > 1:
        raise PipelineError(f"Expected one model for --output, found {len(models)} in params.yaml; name one.")
    for model in models:
        page = report(model, params)
        path = arguments.output or REPORTS / f"{model}.html"
        with written_atomically(path) as partial:
            partial.write_text(page, encoding="utf-8", newline="\n")
        say(f"report: {path}, {path.stat().st_size / 1e6:.1f} MB")
