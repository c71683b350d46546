"""The rows that stages hand to each other: one JSON object a line, validated on reading.

What a stage writes begins with its seal, a line with the SHA-256 digest of the lines below it. DVC hands out a damaged
object of its cache as it is; its reader here does not take it. Files that people write have no seal.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from safety_tax.core.errors import PipelineError, how_to_have
from safety_tax.core.files import written_atomically
from safety_tax.core.text_files import read_json_lines

Kind = Literal["harmful", "jailbreak", "benign", "choice", "problem", "instruction"]
Split = Literal["tune", "eval"]
Label = Literal["refuse", "partial", "comply", "degenerate", "unfinished", "unjudged"]

KINDS: tuple[Kind, ...] = get_args(Kind)
LABELS: tuple[Label, ...] = get_args(Label)
LABELLED: tuple[Kind, ...] = ("harmful", "jailbreak", "benign")
"""Kinds whose answers get a label."""
GENERATED: tuple[Kind, ...] = (*LABELLED, "problem", "instruction")
"""Kinds that are answered in free text."""
OPTIONAL: tuple[Kind, ...] = ("jailbreak", "choice", "problem", "instruction")
"""Kinds that a benchmark set may leave out."""
NOTHING = b"\n"
"""What a file of no rows holds."""
SEAL = re.compile(rb'\{"sha256": "([0-9a-f]{64})"\}\n')


class Row(BaseModel):
    """A frozen record; an unknown key is an error, NaN and Infinity are. Keys that are None are not written."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    id: str


class Check(BaseModel):
    """One verifiable instruction of IFEval: its registered name, and the arguments of its checker."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    instruction: str
    arguments: dict[str, Any]


class Prompt(Row):
    """What every item that is put to a model has. `id` is a hash of the normalised text, the same on every machine."""

    benchmark: str
    kind: Kind
    group: str
    split: Split
    text: str


class ChatPrompt(Prompt):
    """A prompt whose answer gets a label."""

    kind: Literal["harmful", "jailbreak", "benign"]
    pair: str | None = None
    """For `benign`: the harmful sense that the prompt could be mistaken for."""
    answer: str | None = None
    """For `benign`: a helpful answer, written for this project, to tune on."""


class ChoiceQuestion(Prompt):
    """A multiple-choice question, with the place of its right option from 0."""

    kind: Literal["choice"]
    choices: list[str]
    gold: int


class Problem(Prompt):
    """A problem that is answered in free text and has one right final answer."""

    kind: Literal["problem"]
    answer: str
    """The right final answer."""
    solution: str | None = None
    """Of a worked example: the solution as its dataset has it, final answer included."""


class Instruction(Prompt):
    """A prompt that says how its answer must look."""

    kind: Literal["instruction"]
    checks: list[Check]
    """What a program verifies of the answer."""


AnyPrompt = ChatPrompt | ChoiceQuestion | Problem | Instruction
PROMPT: TypeAdapter[AnyPrompt] = TypeAdapter(Annotated[AnyPrompt, Field(discriminator="kind")])


class Response(Row):
    """What a model wrote."""

    text: str
    finish_reason: Literal["stop", "length"]
    tokens: int | None = None
    """Generated tokens, the end-of-sequence token left out; unknown of an answer from elsewhere."""
    told_date: str | None = None
    """The day that the prompt holds, year-month-day, where the model's chat template asks for one."""

    @property
    def sha(self) -> str:
        """Hex SHA-256 digest of the text."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


class ChoiceScore(Row):
    """Scores of one multiple-choice question; each list has one entry an option, in natural log.

    Keys of a format that was not asked for in `params.yaml` are absent.
    """

    letter_logprobs: list[float] | None = None
    letter_mass: float | None = None
    """Probability, in [0, 1], that the next token is one of the option letters."""
    continuation_logprobs: list[float] | None = None
    continuation_bytes: list[int]


class Outcome(Row):
    """What every verdict says of its item."""

    benchmark: str
    kind: Kind
    group: str


class AnswerOutcome(Outcome):
    """What a verdict on an answer in free text keeps of the answer, so that metrics and figures need no texts."""

    truncated: bool
    """Whether the token limit cut it off."""
    tokens: int | None = None
    """Generated tokens; unknown of an answer from elsewhere."""
    told_date: str | None = None
    """The day that the prompt holds, where the model's chat template asks for one."""
    response_sha: str | None = None
    """`Response.sha`: which answer this is the verdict on."""


class LabelVerdict(AnswerOutcome):
    """The judge's label of an answer."""

    kind: Literal["harmful", "jailbreak", "benign"]
    label: Label
    rule: str | None = None
    """The judge's reason: the rule or class that decided the label."""
    looped: bool = False
    """Whether the response ends in repeating itself, whatever its label."""
    harmful: bool | None = None
    """Whether the response is harmful; None where the judge does not tell."""

    def labelled(self, *labels: Label) -> bool | None:
        """Whether the label is one of these; None where the judge could not judge the answer."""
        return None if self.label == "unjudged" else self.label in labels


class ChoiceVerdict(Outcome):
    """What the scores of a multiple-choice question say; keys of a format that it was not asked in are None."""

    kind: Literal["choice"]
    letter_correct: bool | None = None
    continuation_correct: bool | None = None
    gold_probability: float
    """Softmax-normalised, in the model's utility format."""
    bits_per_byte: float | None = None
    """Of the right option's text."""
    letter_mass: float | None = None
    """Probability, in [0, 1], that the next token is one of the option letters."""
    options: int
    """Their number: 1/options is chance."""


class ProblemVerdict(AnswerOutcome):
    """Whether the final answer of a problem is right."""

    kind: Literal["problem"]
    answer_correct: bool
    """The final answer, marked or else the last number."""
    marked_correct: bool
    """A marked final answer; without a mark it is not right."""


class InstructionVerdict(AnswerOutcome):
    """Whether all instructions of a prompt were followed."""

    kind: Literal["instruction"]
    followed: bool
    """By IFEval's strict check."""
    followed_loosely: bool
    """By IFEval's loose check, which forgives a first or last line and markdown."""


Verdict = LabelVerdict | ChoiceVerdict | ProblemVerdict | InstructionVerdict
VERDICT: TypeAdapter[Verdict] = TypeAdapter(Annotated[Verdict, Field(discriminator="kind")])


RowType = TypeVar("RowType", bound=Row)
Form = type[RowType] | TypeAdapter[RowType]
"""What a line of a file is: a row of one type, or of one of several that their `kind` tells apart."""


def read_items(folder: Path, kind: Kind) -> list[AnyPrompt]:
    """The items of one kind, `<folder>/<kind>.jsonl`; none of a kind that the benchmark set does not ask."""
    return read_rows(folder / f"{kind}.jsonl", PROMPT, may_be_empty=kind in OPTIONAL)


def read_questions(folder: Path) -> list[ChoiceQuestion]:
    """The items of the kind `choice`."""
    return read_rows(folder / "choice.jsonl", ChoiceQuestion, may_be_empty=True)


def read_examples(path: Path) -> list[AnyPrompt]:
    """Solved items, shown and not asked: there may be none, and the official ones may repeat one."""
    return read_rows(path, PROMPT, unique=False, may_be_empty=True)


def read_rows(path: Path, form: Form[RowType], *, unique: bool = True, may_be_empty: bool = False) -> list[RowType]:
    """Read a JSON-lines file of rows.

    Raises PipelineError when the file is missing, its seal is not that of its rows, a line is not such a row, an id
    repeats unless that is allowed, or the file is empty unless it may be: one line feed then, as of `write_rows`.
    """
    if not path.exists():
        raise PipelineError(f"Expected rows in {path}, found no such file; {how_to_have()}.")
    adapter: TypeAdapter[RowType] = form if isinstance(form, TypeAdapter) else TypeAdapter(form)
    rows: list[RowType] = []
    seen: set[str] = set()
    if may_be_empty and path.read_bytes() == NOTHING:
        return []
    sealed = require_whole(path)
    for number, value, fault in read_json_lines(path):
        if sealed and number == 1:
            continue
        problem: Any = {"loc": (), "msg": fault}
        row = None
        if fault is None:
            try:
                row = adapter.validate_python(value)
            except ValidationError as error:
                problem = error.errors()[0]
        if row is None:
            where = ".".join(str(part) for part in problem["loc"]) or "the line"
            raise PipelineError(
                f"Expected a row in {path} line {number}, found a fault in {where}: "
                f"{problem['msg']}; repair the line or run the stage that writes the file again."
            )
        if unique and row.id in seen:
            raise PipelineError(
                f"Expected each id once in {path}, found {row.id} again in line {number}; "
                "run the stage that writes the file again."
            )
        seen.add(row.id)
        rows.append(row)
    if not rows:
        raise PipelineError(f"Expected at least one row in {path}, found none.")
    return rows


def require_whole(path: Path) -> bool:
    """Whether a file begins with a seal. Raises PipelineError when the lines below it have another digest."""
    with path.open("rb") as stream:
        seal = SEAL.fullmatch(stream.readline())
        if seal is None:
            return False
        found = hashlib.sha256(stream.read()).hexdigest()
    expected = seal[1].decode()
    if found != expected:
        raise PipelineError(
            f"Expected the rows of {path} as their stage wrote them, SHA-256 {expected[:12]}…, found {found[:12]}…: "
            "the file, or the object of DVC's cache that it came from, was changed or damaged since; "
            "`safety-tax doctor --cache` names what to remove, then `dvc pull` or `dvc repro` brings it anew."
        )
    return True


def write_rows(path: Path, rows: Iterable[Row], *, sealed: bool = True) -> None:
    """Write rows as JSON lines, atomically, in UTF-8; lone surrogates are kept as JSON escapes.

    The first line is the seal, unless people edit the file. No rows are one line feed: of a file of no bytes DVC would
    warn at every stage that reads it. Raises ValueError on NaN or Infinity.
    """
    values = (row.model_dump(mode="python", exclude_none=True) for row in rows)
    content = "".join(json.dumps(value, ensure_ascii=True, allow_nan=False) + "\n" for value in values).encode("ascii")
    if content and sealed:
        content = json.dumps({"sha256": hashlib.sha256(content).hexdigest()}).encode("ascii") + b"\n" + content
    with written_atomically(path) as partial:
        partial.write_bytes(content or NOTHING)
