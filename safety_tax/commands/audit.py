"""A judge against people's labels -> agreement, on the screen.  `safety-tax audit LABELLED.jsonl`

Rows: `prompt`, `response`, `label` (refuse, partial, comply, degenerate, …); optional `system`, `id`, `finish_reason`.
A file ending in `.csv` is read as CSV. XSTest's own columns and labels are taken as they are.
"""

import argparse
import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from rich.table import Table
from rich.text import Text

from safety_tax.core.console import console
from safety_tax.core.errors import PipelineError, did_you_mean
from safety_tax.core.rows import Label
from safety_tax.core.text_files import read_csv, read_json_lines
from safety_tax.judging.exchange import Exchange
from safety_tax.judging.judge import Judge, JudgeSettings, by_rules
from safety_tax.judging.judgement import Judgement
from safety_tax.judging.judges import JUDGE_TYPES
from safety_tax.params import load_params
from safety_tax.results.statistics.judge_error import REFUSALS, Agreement, agreement

LABELS: tuple[str, ...] = get_args(Label)
EXCERPT_CHARACTERS = 100
SCORES = ("precision", "recall", "f1", "kappa")

# Of XSTest's published answers with labels (Röttger et al. 2024): its columns, and its labels.
XSTEST_COLUMNS = {"completion": "response", "model": "system", "final_label": "label"}
XSTEST_LABELS = {"1_full_compliance": "comply", "2_full_refusal": "refuse", "3_partial_refusal": "partial"}

_ANSI_ESCAPE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")


@dataclass(frozen=True)
class LabelledResponse:
    """One row of the file. `name` is its id or, without one, its line."""

    name: str
    prompt: str
    response: str
    label: str
    system: str | None
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True)
class Disagreement:
    """A response that people and the judge label differently; `excerpt` is safe to print."""

    name: str
    system: str | None
    label: str
    verdict: str
    rule: str
    excerpt: str


class Fault(str):
    """What is wrong with a line that cannot be read."""


def load_judge(name: str) -> Judge:
    """The judge of that name; all but `rules` are taken with their settings in params.yaml.

    Raises PipelineError when there is no such judge, or params.yaml is set to another one.
    """
    if name == "rules":
        return by_rules
    if name not in JUDGE_TYPES:
        raise PipelineError(f"Expected --judge to be a judge, found {name!r}; {did_you_mean(name, JUDGE_TYPES)}")
    params = load_params()
    if params.judge.name != name:
        runs_a_model = JUDGE_TYPES[name].checkpoint is not JudgeSettings.checkpoint
        raise PipelineError(
            f"Expected `judge` of params.yaml to describe the {name} to audit, found {params.judge.name!r}; "
            f"set that section{', then run `dvc repro judge_model`' if runs_a_model else ''}."
        )
    return params.judge.load(params.run, params.prompting.date)


def raw_rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Last line and content of each row of a JSONL or CSV file, or what is wrong with it. A cell may be empty.

    Raises PipelineError where a CSV file as a whole cannot be read.
    """
    if path.suffix.lower() == ".csv":
        for number, row in read_csv(path):
            yield number, {key: value for key, value in row.items() if value or key == "completion"}
        return
    for line in read_json_lines(path):
        yield line.number, line.value if line.fault is None else Fault(line.fault)


def own_columns(row: dict[str, Any]) -> dict[str, Any]:
    """The row, with XSTest's columns and labels in this project's words; these win over others of the same name."""
    if "completion" not in row or "response" in row:
        return row
    row = row | {own: row[theirs] for theirs, own in XSTEST_COLUMNS.items() if theirs in row}
    label = row.get("label")
    return row | ({"label": XSTEST_LABELS.get(label, label)} if isinstance(label, str) else {})


def parse_row(row: Any, where: str) -> tuple[LabelledResponse, str | None]:
    """A row and its id, None where it has none. Raises PipelineError, naming what is wrong with the row."""
    if not isinstance(row, dict):
        found = row if isinstance(row, Fault) else type(row).__name__
        raise PipelineError(f"Expected a JSON object in {where}, found {found}; repair or remove it.")
    row = own_columns(row)
    if "response_sha" in row and "response" not in row:
        raise PipelineError(
            f"Expected a prompt and its response in {where}, found a label of `safety-tax label`, which has no texts; "
            "run `dvc repro`, which measures the judge by it."
        )
    for key in ("prompt", "response"):
        if not isinstance(row.get(key), str):
            raise PipelineError(f"Expected a text `{key}` in {where}, found {_shown(row, key)}; add it to the row.")
    label = row.get("label")
    if not isinstance(label, str) or label not in LABELS:
        near = did_you_mean(label, LABELS) if isinstance(label, str) else f"write one of {', '.join(LABELS)}."
        raise PipelineError(f"Expected a known `label` in {where}, found {_shown(row, 'label')}; {near}")
    system = row.get("system")
    if not (system is None or isinstance(system, str)):
        raise PipelineError(f"Expected a text `system` in {where}, found {_shown(row, 'system')}; quote it.")
    finish_reason = row.get("finish_reason", "stop")
    if finish_reason not in ("stop", "length"):
        raise PipelineError(
            f"Expected `finish_reason` stop or length in {where}, found {_shown(row, 'finish_reason')}; mend the row."
        )
    identity = row.get("id")
    if not (identity is None or isinstance(identity, str | int)):
        raise PipelineError(f"Expected a text or a number as `id` in {where}, found {_shown(row, 'id')}; quote it.")
    name = None if identity is None else str(identity)
    place = where.rpartition(" ")[2]
    return LabelledResponse(name or place, row["prompt"], row["response"], label, system, finish_reason), name


def _shown(row: dict[str, Any], key: str) -> str:
    return excerpt(json.dumps(row[key]), 40) if key in row else "none"


def read_labelled(path: Path) -> list[LabelledResponse]:
    """The rows of a labelled file; an id may come back with another `system`, but not with the same one.

    Raises PipelineError when the file is missing or empty, or a line is not such a row.
    """
    if not path.is_file():
        raise PipelineError(f"Expected labelled responses in {path}, found no such file; check the path.")
    rows: list[LabelledResponse] = []
    seen: set[tuple[str | None, str]] = set()
    for number, raw in raw_rows(path):
        row, identity = parse_row(raw, f"{path} line {number}")
        if identity is not None and (row.system, identity) in seen:
            raise PipelineError(
                f"Expected each id once in {path}, found {excerpt(identity, 40)} again in line {number}; "
                "remove one of the two."
            )
        if identity is not None:
            seen.add((row.system, identity))
        rows.append(row)
    if not rows:
        raise PipelineError(f"Expected at least one labelled response in {path}, found none; label some first.")
    return rows


def excerpt(text: str, characters: int = EXCERPT_CHARACTERS) -> str:
    """The beginning of a text on one line, without escape sequences, control, format or surrogate characters."""
    text = " ".join(_ANSI_ESCAPE.sub("", text[: 10 * characters]).split())
    # Cc, Cf, Cs, Co, Cn: nothing of these may reach a terminal.
    text = "".join(character for character in text if unicodedata.category(character)[0] != "C")
    return text if len(text) <= characters else text[: characters - 1] + "…"


def worst_first(rows: Sequence[LabelledResponse], judgements: Sequence[Judgement]) -> list[Disagreement]:
    """All disagreements: those on refusal or not come first, each kind in the order of the file."""
    found = [
        Disagreement(
            excerpt(row.name),
            row.system and excerpt(row.system),
            row.label,
            found.label,
            found.rule,
            excerpt(row.response),
        )
        for row, found in zip(rows, judgements, strict=True)
        if row.label != found.label
    ]
    return sorted(found, key=lambda item: (item.label in REFUSALS) == (item.verdict in REFUSALS))


def by_system(rows: Sequence[LabelledResponse], verdicts: Sequence[str]) -> dict[str, Agreement]:
    """Agreement for each system, in the order of the file; empty when no row names one."""
    if all(row.system is None for row in rows):
        return {}
    groups: dict[str, tuple[list[str], list[str]]] = {}
    for row, verdict in zip(rows, verdicts, strict=True):
        truth, predicted = groups.setdefault(excerpt(row.system or "(unnamed)"), ([], []))
        truth.append(row.label)
        predicted.append(verdict)
    return {system: agreement(truth, predicted) for system, (truth, predicted) in groups.items()}


def as_json(result: Agreement) -> dict[str, Any]:
    """`n`, the four scores (null where undefined) and the full confusion matrix, people's label first."""
    confusion = {
        label: {verdict: result.confusion.get(label, {}).get(verdict, 0) for verdict in LABELS} for label in LABELS
    }
    return {"n": result.n, **{score: getattr(result, score) for score in SCORES}, "confusion": confusion}


def scores_table(judge: str, overall: Agreement, systems: dict[str, Agreement]) -> Table:
    table = Table(title=Text(f"{judge}: agreement with people on refusal (refuse or partial)"), title_justify="left")
    table.add_column("system")
    for column in ("n", *SCORES):
        table.add_column(column, justify="right")
    for system, result in [("all", overall), *systems.items()]:
        scores = (getattr(result, score) for score in SCORES)
        table.add_row(Text(system), f"{result.n:,}", *("-" if score is None else f"{score:.3f}" for score in scores))
    return table


def confusion_table(result: Agreement) -> Table:
    table = Table(title="people's label (down) by verdict (across)", title_justify="left")
    table.add_column("")
    for verdict in LABELS:
        table.add_column(verdict, justify="right")
    for label, row in as_json(result)["confusion"].items():
        table.add_row(label, *(f"{count:,}" for count in row.values()))
    return table


def disagreements_table(disagreements: Sequence[Disagreement], shown: int) -> Table:
    title = f"disagreements: {len(disagreements):,}, on refusal or not first, {min(shown, len(disagreements)):,} shown"
    table = Table(title=title, title_justify="left")
    for column in ("row", "system", "label", "verdict", "rule", "response"):
        table.add_column(column, overflow="fold")
    for item in disagreements[:shown]:
        cells = (item.name, item.system or "", item.label, item.verdict, item.rule, item.excerpt)
        table.add_row(*map(Text, cells))
    return table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What the command takes."""
    parser.add_argument("labelled", type=Path, metavar="LABELLED.jsonl")
    parser.add_argument("--judge", default="rules", help="rules, or the judge that params.yaml describes")
    parser.add_argument("--examples", type=int, default=20, help="disagreements to show (20)")
    parser.add_argument("--json", action="store_true", help="strict JSON on standard output")


def run(arguments: argparse.Namespace) -> None:
    """The command."""
    console.stderr = arguments.json  # a model judge's progress is no part of the report
    judge = load_judge(arguments.judge)
    rows = read_labelled(arguments.labelled)
    # A file like this says nothing of kinds; harmful is what every judge labels.
    judgements = judge([Exchange(r.name, "harmful", r.prompt, r.response, r.finish_reason) for r in rows])
    verdicts: list[str] = [judgement.label for judgement in judgements]
    overall = agreement([row.label for row in rows], verdicts)
    systems = by_system(rows, verdicts)
    disagreements = worst_first(rows, judgements)
    shown = max(arguments.examples, 0)
    if arguments.json:
        report = {
            "judge": arguments.judge,
            **as_json(overall),
            "systems": {system: as_json(result) for system, result in systems.items()},
            "disagreements": len(disagreements),
            "examples": [vars(item) for item in disagreements[:shown]],
        }
        print(json.dumps(report, indent=2, allow_nan=False))
        return
    console.print(scores_table(arguments.judge, overall, systems))
    console.print(confusion_table(overall))
    if disagreements:
        console.print(disagreements_table(disagreements, shown))
