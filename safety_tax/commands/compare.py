"""Verdicts of two Git revisions, item by item -> which changes are more than noise.  `safety-tax compare A [B]`

B is the workspace unless it is named. Nothing is checked out: the verdicts of a revision come from DVC's cache or,
where it lacks them, from DVC's remote. Where neither has them, the numbers that Git holds are compared, unpaired.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from safety_tax.core.console import console, say
from safety_tax.core.errors import PipelineError
from safety_tax.results.comparison.committed_verdicts import lead
from safety_tax.results.comparison.items import Change, regressions
from safety_tax.results.comparison.revisions import read_revision
from safety_tax.results.comparison.two_revisions import Report, compared
from safety_tax.results.comparison.wording import HEADLINE, difference, differs_as_shown, number, p_value, sentence


def table(model: str, changes: Sequence[Change], report: Report) -> Table:
    """Those changes that are more than noise first."""
    result = Table(
        title=Text(f"{model}: {report.before.name} (A), {report.after.name} (B)"),
        title_justify="left",
        caption=f"points of 100 (bits_per_byte: bits), {report.level} intervals, {report.basis}",
        caption_justify="left",
        box=SIMPLE_HEAD,  # eight columns with boxes around them are too wide for most terminals
        show_edge=False,
        padding=0,
    )
    result.add_column("variant", overflow="fold", min_width=8)
    result.add_column("rate", overflow="fold", min_width=10)
    for column in ("A", "B", "difference", "flips", "p, Holm"):
        result.add_column(column, justify="right", no_wrap=True)
    result.add_column("more than noise?", min_width=6)
    answers = {True: "yes, better", False: "yes, worse", None: "yes"}
    real = [change for change in changes if change.beyond_noise]
    for change in [*real, *(change for change in changes if not change.beyond_noise)]:
        values = (number(change, value) for value in (change.before, change.after))
        flips = "" if change.p is None or report.unpaired else f"+{len(change.up):,} -{len(change.down):,}"
        verdict = answers[change.better] if change.beyond_noise else "no"
        cells = (change.variant, change.rate, *values, difference(change), flips, p_value(change), verdict)
        style = "bold" if change.beyond_noise and differs_as_shown(change) else ""
        result.add_row(*map(Text, cells), style=style, end_section=bool(real) and change is real[-1])
    return result


def print_tables(report: Report) -> None:
    """For a person at a terminal."""
    for model, comparison in report.models.items():
        moved = [change for change in comparison.distinct if change.moved]
        if moved:
            console.print(table(model, moved, report))
        say(f"{model}: {len(comparison.distinct) - len(moved)} of {len(comparison.distinct)} rates are as they were.")
    for line in report.remarks:
        say(line)
    changes = [change for comparison in report.models.values() for change in comparison.distinct]
    say(
        f"compare: {report.before.name} against {report.after.name}, {sum(change.moved for change in changes)} of "
        f"{len(changes)} rates changed, {sum(change.beyond_noise for change in changes)} by more than noise"
    )


def markdown(report: Report, pictures: str | None = None) -> str:
    """For a pull request: what to choose now, then the headline rates by variant, bold where more than noise."""
    basis = f"{report.level}, {report.basis}, p-values Holm-corrected over the variants that changed"
    lines = []
    for model, comparison in report.models.items():
        changes = {(c.variant, c.rate): c for c in comparison.changes if c.rate in HEADLINE}
        rates = [rate for rate in HEADLINE if any(rate == found for _, found in changes)]
        lines += [f"### {model}: `{report.before.name}` → `{report.after.name}`", ""]
        lines += lead(model, report.before, report.after, pictures)
        lines += [f"| variant | {' | '.join(rates)} |", "|---|" + "---:|" * len(rates)]
        for variant in dict.fromkeys(variant for variant, _ in changes):
            cells = (markdown_cell(changes.get((variant, rate))) for rate in rates)
            lines.append(f"| {variant} | {' | '.join(cells)} |")
        beyond = [change for change in changes.values() if change.beyond_noise]
        real = [sentence(change) for change in beyond if differs_as_shown(change)]
        if real:
            closing = f"More than noise, in bold: {'; '.join(real)}. Every other change could be noise ({basis})."
        elif beyond:
            closing = f"No change is as large as the last digit that is shown ({basis})."
        elif any(change.moved for change in changes.values()):
            closing = f"Every change could be noise ({basis})."
        elif others := [change for change in comparison.distinct if change.moved]:
            closing = f"None of these rates changed on any item; {len(others)} of the others did: see "
            closing += "`safety-tax compare`."
        else:
            closing = "Nothing changed on any item."
        lines += ["", closing, ""]
    return "\n".join([*lines, *report.remarks]).rstrip()


def markdown_cell(change: Change | None) -> str:
    if change is None:
        return ""
    if not change.moved or not differs_as_shown(change):
        return number(change, change.after)
    values = f"{number(change, change.before)} → {number(change, change.after)}"
    return f"**{values}** ({difference(change)})" if change.beyond_noise else values


def as_json(report: Report) -> dict[str, Any]:
    """Everything, with the ids of the items that flipped; a key without a value is absent."""
    models: dict[str, dict[str, Any]] = {}
    fallen = []
    for model, comparison in report.models.items():
        for change in comparison.changes:
            numbers = {"a": change.before, "b": change.after, "difference": change.difference.estimate}
            numbers |= {"difference_lo": change.difference.lower, "difference_hi": change.difference.upper}
            numbers |= {"n": change.difference.n, "beyond_noise": change.beyond_noise}
            tested = {"p": change.p, "p_holm": change.p_holm}
            flips = {} if report.unpaired else {"up": change.up, "down": change.down}
            models.setdefault(model, {}).setdefault(change.variant, {})[change.rate] = (
                numbers if change.p is None else numbers | tested | flips
            )
        fallen += [{"model": model, "variant": c.variant, "rate": c.rate} for c in regressions(comparison.changes)]
    sides = {
        key: {"revision": side.name} | ({"commit": side.commit} if side.commit else {})
        for key, side in (("a", report.before), ("b", report.after))
    }
    return {
        **sides,
        "confidence": report.confidence,
        "paired": not report.unpaired,
        "models": models,
        "regressions": fallen,
        "not_compared": report.left_out,
        "measured_differently": report.warnings,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("before", metavar="REV_A", help="a commit, branch or tag")
    parser.add_argument("after", metavar="REV_B", nargs="?", help="another one (the workspace)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--md", action="store_true", help="Markdown of the headline rates, for a pull request")
    form.add_argument("--json", action="store_true", help="strict JSON, with the ids of the items that flipped")
    parser.add_argument("--pictures", metavar="URL", help="with --md: where the files of REV_B are, for the frontier")
    parser.add_argument("--fail-on", choices=["regression"], help="exit with 1 when safety or a currency surely fell")


def run(arguments: argparse.Namespace) -> None:
    """The command."""
    report = compared(read_revision(arguments.before), read_revision(arguments.after))
    if arguments.json:
        print(json.dumps(as_json(report), indent=2, allow_nan=False))
    elif arguments.md:
        print(markdown(report, arguments.pictures))
    else:
        print_tables(report)
    fallen = [
        f"{sentence(change)} ({model}, p {p_value(change)})"
        for model, comparison in report.models.items()
        for change in regressions(comparison.changes)
    ]
    if arguments.fail_on and fallen:
        raise PipelineError(
            f"Expected no fall of safety or a currency from {report.before.name} to {report.after.name}, found more "
            f"than noise: {'; '.join(fallen)}; --json names the items that flipped."
        )
