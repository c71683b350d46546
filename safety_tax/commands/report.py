"""A run as one HTML file to look at, offline.  `safety-tax report [MODEL …] [--against REVISION] [--output FILE]`

Which merge to ship and what it costs: the verdict, the pictures, the table, and every item with the answers of two
variants. Several models are laid side by side on one page; without MODEL, all of params.yaml. With --against, what
moved since a commit, branch or tag, what of it is more than noise, and the items that flipped.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from safety_tax.core.console import say
from safety_tax.core.errors import PipelineError
from safety_tax.core.files import written_atomically
from safety_tax.core.rows import KINDS, VERDICT, Response, Verdict, read_items, read_rows
from safety_tax.core.workspace import BENCHMARKS, DETAIL, FIGURES, REPORTS, RESPONSES, VERDICTS
from safety_tax.params import Params, load_params
from safety_tax.results.comparison.items import unshared
from safety_tax.results.comparison.revisions import (
    Revision,
    VerdictsMissing,
    committed_bytes,
    read_revision,
    read_verdicts,
    rows_of,
)
from safety_tax.results.comparison.two_revisions import Report, compared
from safety_tax.results.conditions import how_asked, how_donors_differ
from safety_tax.results.measures import measures, values_of
from safety_tax.results.report.items import Browsed
from safety_tax.results.report.page import Asked, Measured, render
from safety_tax.results.tables import told_date
from safety_tax.results.variant import ModelResults, parsed_results, read_results

# The page draws the frontier itself. In the order of a reader's questions; others follow by name.
DRAWN = ("over_refusal", "net_benefit", "safety_by_category", "utility_by_area", "answer_lengths")


class Run(NamedTuple):
    """What a project holds of one model: its results, and each variant's verdicts."""

    results: ModelResults
    verdicts: dict[str, list[Verdict]]

    @property
    def asked(self) -> Asked:
        """Kind and id of each item."""
        return frozenset((row.kind, row.id) for row in self.verdicts["base"])


class Then(NamedTuple):
    """The older revision, and what moved since."""

    revision: Revision
    moved: Report


def read_figures(folder: Path) -> dict[str, bytes]:
    """SVG files of a folder by their name in words, but the frontier."""
    files = [file for file in sorted(folder.glob("*.svg")) if file.stem != "frontier"]
    files.sort(key=lambda file: DRAWN.index(file.stem) if file.stem in DRAWN else len(DRAWN))
    return {file.stem.replace("_", " "): file.read_bytes() for file in files}


def read_run(model: str, params: Params) -> Run:
    """The results of a model. Raises PipelineError when the catalogue lacks it, or a part of its run is missing."""
    wanted = params.of(model).recipes
    results = read_results(DETAIL / f"{model}.json")
    if model in params.models and set(results.recipes) != set(wanted):
        raise PipelineError(
            f"Expected results of {model!r} for the recipes {', '.join(wanted) or 'none'}, found "
            f"{', '.join(results.recipes) or 'none'} in {DETAIL / f'{model}.json'}; run `dvc repro`."
        )
    verdicts = {name: read_rows(VERDICTS / model / f"{name}.jsonl", VERDICT) for name in results.variants}
    for name, rows in verdicts.items():
        if any(only := unshared(verdicts["base"], rows)):
            raise PipelineError(
                f"Expected {name!r} of {model!r} to have been asked what its base was, found {only[0]:,} items of the "
                f"base alone and {only[1]:,} of its own; run `dvc repro`."
            )
    require_same_counts(results, verdicts["base"], params.model(model).utility_format)
    return Run(results, verdicts)


def require_same_counts(results: ModelResults, verdicts: Sequence[Verdict], utility_format: str) -> None:
    """Raises PipelineError when the results are of other verdicts than those that are there."""
    asked = measures(utility_format)
    for rate, estimate in results.base.rates.items():
        if rate in asked and (found := len(values_of(asked[rate], verdicts))) != estimate.n:
            raise PipelineError(
                f"Expected {rate} of {results.model!r} of the {found:,} items that were judged, found it of "
                f"{estimate.n:,} in {DETAIL / f'{results.model}.json'}; run `dvc repro`."
            )


def measured(run: Run, params: Params, then: Then | None) -> Measured:
    """A model for the page."""
    model = run.results.model
    own = params.of(model)
    recipes = {name: recipe for name, recipe in own.recipes.items() if name in run.results.recipes}
    asked = how_asked(params.model(model), told_date(run.verdicts["base"]))
    return Measured(
        results=run.results,
        asked=run.asked,
        recipes={name: recipe.model_dump(exclude_unset=True, exclude={"models"}) for name, recipe in recipes.items()},
        notes=[asked.strip(), how_donors_differ(own.may_differ()).strip()],
        figures=read_figures(FIGURES / model),
        before=results_before(model, then) if then else None,
    )


def results_before(model: str, then: Then) -> ModelResults | None:
    """The results of the older revision; None where it has none, or another version of this project wrote them."""
    file = DETAIL / f"{model}.json"
    content = committed_bytes(then.revision.commit, file)
    try:
        return None if content is None else parsed_results(content, str(file), "")
    except PipelineError:
        return None


def browsed(run: Run, utility_format: str, several: bool, then: Then | None, first: int) -> list[Browsed]:
    """The variants of a model, whose answers can be read, from place `first` on; behind them the older revision's.

    A variant is compared with itself before where that is there, and else with the base.
    """
    model, names = run.results.model, list(run.verdicts)
    label = "{} of " + model if several else "{}"
    before = verdicts_before(model, names, then) if then else {}
    of_before = {name: first + len(names) + place for place, name in enumerate(before)}
    found = [
        Browsed(
            *(model, name, label.format(name), of_before.get(name, first), utility_format, run.verdicts[name]),
            read_rows(RESPONSES / model / name / "responses.jsonl", Response),
        )
        for name in names
    ]
    for name, rows in before.items():
        assert then is not None
        told = f"{label.format(name)} in {then.revision.name}"
        responses = responses_before(model, name, then)
        found.append(
            Browsed(model, name, told, of_before.get("base", first), utility_format, rows, responses, now=False)
        )
    return found


def verdicts_before(model: str, names: Sequence[str], then: Then) -> dict[str, list[Verdict]]:
    """Those of the older revision by variant; none where items could not be paired."""
    if then.moved.unpaired or model not in then.moved.models:
        return {}
    keys = [(model, name) for name in names if (model, name) in then.revision.keys]
    return {name: rows for (_, name), rows in read_verdicts(then.revision, keys).items()}


def responses_before(model: str, name: str, then: Then) -> list[Response] | None:
    """The older revision's answers; None where neither DVC's cache nor its remote has them."""
    try:
        return rows_of(then.revision, {"": RESPONSES / model / name / "responses.jsonl"}, Response).get("")
    except VerdictsMissing:
        return None


def report(models: Sequence[str], params: Params, against: str | None = None) -> str:
    """The page of one or more models. Raises PipelineError when a part of a run, or the revision, is missing."""
    runs = [read_run(model, params) for model in models]
    then = read_then(against, models) if against is not None else None
    prompts = [prompt for kind in KINDS for prompt in read_items(BENCHMARKS, kind)]
    here = frozenset((prompt.kind, prompt.id) for prompt in prompts)
    several = len(runs) > 1
    readable: list[Browsed] = []
    for run in runs:
        if run.asked == here or not several:  # one model that was asked other items is refused there
            utility_format = params.model(run.results.model).utility_format
            readable += browsed(run, utility_format, several, then, len(readable))
    pages = [measured(run, params, then) for run in runs]
    return render(pages, prompts, readable, then.moved if then else None)


def read_then(against: str, models: Sequence[str]) -> Then:
    """The older revision. Raises PipelineError when it does not have all of the models."""
    revision = read_revision(against)
    moved = compared(revision, read_revision(None))
    for model in models:
        if model not in moved.models:
            raise PipelineError(
                f"Expected results of {model!r} in {against} to compare with, found those of "
                f"{', '.join(moved.models) or 'no model'}; name another revision, or leave out the model."
            )
    return Then(revision, moved)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model", nargs="*", help="models, side by side; all of params.yaml when left out")
    parser.add_argument("--against", metavar="REVISION", help="show what moved since a commit, branch or tag")
    parser.add_argument(
        "--output", type=Path, help="the file to write; reports/MODEL.html, of several reports/models.html"
    )


def run(arguments: argparse.Namespace) -> None:
    """The command."""
    params = load_params()
    models = list(dict.fromkeys(arguments.model)) or params.models
    page = report(models, params, arguments.against)
    path = arguments.output or REPORTS / f"{models[0] if len(models) == 1 else 'models'}.html"
    with written_atomically(path) as partial:
        partial.write_text(page, encoding="utf-8", newline="\n")
    say(f"report: {path}, {path.stat().st_size / 1e6:.1f} MB")
