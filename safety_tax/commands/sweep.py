"""Recipes at many settings -> their safety-utility frontiers.

`safety-tax sweep MODEL RECIPE [RECIPE …] --over scale=0.1..1.0 density=0.3,0.5`

Every setting is a DVC experiment of the present commit (`dvc exp run --temp`), named after it: one that is there
already is not run again, and `dvc exp show`, `dvc exp diff`, `dvc exp branch` work on them. Writes
`metrics/sweeps/MODEL/RECIPES.json`: every point, and each dial's losses at half the donor's safety gain, in each
currency, on both halves of the items. Choose settings by the development half; believe the report half.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from safety_tax.core.console import console, say
from safety_tax.core.currencies import CURRENCIES
from safety_tax.core.errors import PipelineError
from safety_tax.core.files import write_json
from safety_tax.core.rows import Verdict
from safety_tax.core.workspace import SWEEPS
from safety_tax.params import Params, load_params, read_params, validated
from safety_tax.results.comparison.revisions import commit_of, git, read_revision, read_verdicts
from safety_tax.results.comparison.sweeps import (
    Asked,
    Point,
    Settings,
    dial_numbers,
    dials,
    grid,
    half,
    parse_over,
    point_numbers,
    standings,
    with_settings,
)
from safety_tax.results.estimate import ESTIMATE_ENDS, Estimate, fixed, shown
from safety_tax.results.rounding import significant

HALVES = {"development": True, "report": False}
YARDSTICK = "safety_donor"
SHOWN = 2
"""Currencies, the first of them all, whose losses are in the terminal's table of points; the file has all."""


def experiment_name(model: str, recipe: str, settings: Settings) -> str:
    """Like `smollm2_135m-ties-scale=0.5`."""
    return "-".join([model, recipe, *(f"{key}={value}" for key, value in settings.items())])


def experiments_of(commit: str) -> dict[str, str]:
    """Name -> commit of the DVC experiments that were run from a commit."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        return {name: found for name, found in repo.experiments.ls().get(commit, []) if found}


def ran(name: str, recipe: str, settings: Settings, model: str) -> bool:
    """Whether one experiment succeeded, in a temporary copy of the commit, its output shown.

    In this process and not by a worker of DVC's queue: a worker that dies leaves whoever waits for it waiting.
    """
    values = [part for key, value in settings.items() for part in ("-S", f"recipes.{recipe}.{key}={value}")]
    command = ["exp", "run", "--temp", "--name", name, *values, f"metrics@{model}"]
    return subprocess.run([sys.executable, "-m", "dvc", *command], check=False).returncode == 0


def run_missing(model: str, wanted: dict[str, tuple[str, Settings]]) -> dict[str, str]:
    """Run the experiments that are not there yet, one after the other; returns the commit of each.

    One that fails does not stop the others. Raises PipelineError when one did, or when the workspace has changes that
    no commit holds.
    """
    head = commit_of("HEAD")
    found = experiments_of(head)
    missing = {name: of for name, of in wanted.items() if name not in found}
    say(f"sweep: {len(wanted)} settings, {len(missing)} to run")
    # What is reported depends on two files alone; an experiment takes the whole workspace but the sweeps' own results.
    paths = [".", f":(exclude){SWEEPS}"] if missing else ["params.yaml", "dvc.lock"]
    changed = git("diff", "--name-only", "HEAD", "--", *paths).stdout.decode().split("\n")[0]
    if changed:
        raise PipelineError(
            f"Expected a workspace without changes, since experiments belong to a commit, found some in {changed}; "
            "commit them."
        )
    if not missing:
        return found
    if not str(Path.cwd()).isascii():
        raise PipelineError(
            f"Expected a checkout in a path of ASCII letters, since DVC runs no experiments elsewhere, found "
            f"{Path.cwd()}; clone the project into another folder, or rename this one."
        )
    for name, (recipe, settings) in missing.items():
        if not ran(name, recipe, settings, model):
            say(f"sweep: {name} failed, as it says above; going on with the others")
    found = experiments_of(head)
    failed = [name for name in missing if name not in found]
    if failed:
        raise PipelineError(
            f"Expected {len(missing)} experiments to finish, found {len(failed)} that did not, {failed[0]} first; what "
            "it printed above says why. The others are kept: run the sweep again to go on, without a setting that "
            "fails each time."
        )
    return found


def planned(content: Any, model: str, recipes: Sequence[str], over: dict[str, list[Any]]) -> dict[str, Any]:
    """Experiment name -> (recipe, settings), each validated before anything runs. Raises PipelineError."""
    wanted = {}
    for recipe in recipes:
        for settings in grid(over):
            validated(with_settings(content, recipe, settings))
            wanted[experiment_name(model, recipe, settings)] = (recipe, settings)
    return wanted


def report(
    params: Params, model: str, points: Sequence[Point], dial: str, base: list[Verdict], donor: list[Verdict]
) -> dict[str, Any]:
    """Every point and every dial, on both halves; `chosen` has the most net benefit on the development half.

    `standing` says of each half in which currencies the base has something to lose: no loss shows in the others.
    """
    of = Asked(params.model(model).utility_format, params.metrics)
    groups = dials(points, dial)
    rows: list[dict[str, Any]] = [
        {"recipe": p.recipe, "settings": p.settings, "experiment": p.experiment} for p in points
    ]
    families: list[dict[str, Any]] = [
        {
            "recipe": group[0].recipe,
            "settings": {key: value for key, value in group[0].settings.items() if key != dial},
            "dial": {dial: [point.settings[dial] for point in group]},
        }
        for group in groups
    ]
    standing = {}
    for name, development in HALVES.items():
        base_half, donor_half = half(base, development), half(donor, development)
        standing[name] = standings(base_half, of)
        halves = {point.experiment: replace(point, verdicts=half(point.verdicts, development)) for point in points}
        for row in rows:
            row[name] = point_numbers(base_half, halves[row["experiment"]], of)
        group_halves = [[halves[point.experiment] for point in group] for group in groups]
        numbers = dial_numbers(base_half, group_halves, dial, donor_half, of)
        for family, found in zip(families, numbers, strict=True):
            family[name] = found.model_dump(mode="json", exclude_none=True)
    for recipe in dict.fromkeys(point.recipe for point in points):
        best = max((row for row in rows if row["recipe"] == recipe), key=lambda r: r["development"]["net_benefit"])
        best["chosen"] = True
    return {"model": model, "size": params.size, "standing": standing, "points": rows, "dials": families}


def print_tables(result: dict[str, Any]) -> None:
    """What a person reads: the report half, in points of 100."""
    standing = result["standing"]["report"]
    points, frontier = points_table(result["points"], standing), frontier_table(result["dials"], standing)
    console.print(points)
    console.print(frontier)
    for name, of in result["standing"].items():
        nothing = [CURRENCIES[currency].noun for currency, value in of.items() if value != "measurable"]
        if nothing:
            say(
                f"  on the {name} half the base has nothing to lose in {', '.join(nothing)}, so no loss may be read "
                "from it; a larger `size` in params.yaml asks more"
            )


def points_table(rows: Sequence[dict[str, Any]], standing: Iterable[str]) -> Table:
    """A line a point: what it gained, what it lost in the currencies that people ask for first, what it is worth."""
    currencies = [of for name, of in list(CURRENCIES.items())[:SHOWN] if name in standing]
    keys = ("safety_gain", *(currency.loss for currency in currencies), "net_benefit")
    found = Table(title="report half; * has the most net benefit on the development half", box=SIMPLE_HEAD)
    lost = (f"{currency.noun} lost" for currency in currencies)
    for column in ("recipe", "settings", "gain", *lost, "net benefit", ""):
        found.add_column(column)
    for row in rows:
        flat = row["report"]
        effects = (
            Estimate(n=0, **{field: flat[key + end] for end, field in ESTIMATE_ENDS.items()}) if key in flat else None
            for key in keys
        )
        cells = [shown(effect) if effect else "" for effect in effects]
        found.add_row(row["recipe"], spoken(row["settings"]), *cells, "*" if row.get("chosen") else "")
    return found


def frontier_table(families: Sequence[dict[str, Any]], standing: Mapping[str, str]) -> Table:
    """A line a dial and currency: the loss at half the donor's gain, and the area beyond the base."""

    def cell(numbers: dict[str, float] | None) -> str:
        if numbers is None:
            return ""
        return shown(Estimate(n=0, **numbers)) if "low" in numbers else fixed(100 * numbers["value"], 1)

    found = Table(title="report half, loss at half the donor's safety gain", box=SIMPLE_HEAD)
    for column in ("recipe", "settings", "currency", "matched loss", "less than the first's by", "hypervolume"):
        found.add_column(column)
    for family in families:
        numbers = family["report"]
        for currency, area in numbers["hypervolume"].items():
            absent = "not reached" if standing[currency] == "measurable" else standing[currency].replace("_", " ")
            loss, less = (cell(numbers[key].get(currency)) for key in ("matched_loss", "less_first"))
            settings, noun = spoken(family["settings"]), CURRENCIES[currency].noun
            found.add_row(family["recipe"], settings, noun, loss or absent, less, f"{area:.4f}")
    return found


def spoken(settings: Settings) -> str:
    """`alpha=0.5 k=0.3`."""
    return " ".join(f"{key}={value}" for key, value in settings.items())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("model")
    parser.add_argument("recipes", nargs="+", metavar="RECIPE", help="recipes of params.yaml")
    parser.add_argument("--over", nargs="+", required=True, metavar="KEY=VALUES", help="dials; the first is the one")
    parser.add_argument("--points", type=int, default=4, help="values that a range LOW..HIGH stands for (4)")
    parser.add_argument("--donor", help=f"recipe whose safety gain is the yardstick ({YARDSTICK})")


def yardstick_of(params: Params, model: str, asked: str | None) -> str:
    """The recipe whose gain is the yardstick. Raises PipelineError where it is none of the model's."""
    name = asked or YARDSTICK
    if asked is None and name not in params.of(model).recipes:
        raise PipelineError(
            f"Expected the recipe {name!r} of {model}, whose safety gain is the yardstick, found none in params.yaml; "
            "name another one by --donor: best that of a safety donor alone, at full weight."
        )
    params.recipe_for(model, name)
    return name


def run(arguments: argparse.Namespace) -> None:
    """The command."""
    params = load_params()
    model = arguments.model
    params.model(model)
    for recipe in arguments.recipes:
        params.recipe_for(model, recipe)
    yardstick = yardstick_of(params, model, arguments.donor)
    if arguments.points < 2:
        raise PipelineError(f"Expected --points of 2 or more, found {arguments.points}; a range has two ends.")
    dials_given = [parse_over(text, arguments.points) for text in arguments.over]
    over = dict(dials_given)
    if len(over) < len(dials_given):
        raise PipelineError(
            f"Expected each dial of --over once, found {' '.join(arguments.over)}; give all its values in one."
        )
    wanted = planned(read_params(), model, arguments.recipes, over)
    yardsticks = [(model, "base"), (model, yardstick)]
    measured = read_verdicts(read_revision("HEAD"), yardsticks)
    if len(measured) < len(yardsticks):
        raise PipelineError(
            f"Expected verdicts of base and {yardstick} in the present commit, found {len(measured)} of the two; "
            "run `dvc repro`, commit dvc.lock, then sweep."
        )
    found = run_missing(model, wanted)
    points = []
    for name, (recipe, settings) in wanted.items():
        key = (model, recipe)
        points.append(Point(recipe, settings, name, read_verdicts(read_revision(found[name]), [key])[key]))
    base, donor = (measured[key] for key in yardsticks)
    result = report(params, model, points, next(iter(over)), base, donor)
    path = SWEEPS / model / f"{'-'.join(arguments.recipes)}.json"
    write_json(path, significant(result))
    print_tables(result)
    say(f"sweep: {len(points)} points of {model} in {path}")
