"""Answers that were generated elsewhere, as the rows that the judge reads: the prompts, and each variant's answers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import KINDS, OPTIONAL, PROMPT, AnyPrompt, Kind, Problem, Response
from safety_tax.core.text_files import JsonLine, read_json_lines
from safety_tax.datasets.item import Item

Given = Literal["harmful", "jailbreak", "benign", "problem"]
"""Kinds that a text alone can be judged by: a question wants scores of its options, an instruction its checks."""
Text = Annotated[str, Field(pattern=r"\S")]


class GivenAnswer(BaseModel):
    """One line of a file of answers; other keys are left alone. `answer` is a problem's right final answer."""

    model_config = ConfigDict(extra="ignore", frozen=True)
    kind: Given
    prompt: Text
    response: str
    group: Text = "given"
    benchmark: Text = "given"
    answer: Text | None = None
    finish_reason: Literal["stop", "length"] = "stop"
    tokens: Annotated[int, Field(ge=0)] | None = None

    def asked(self) -> AnyPrompt:
        """The item that is answered, with the id that this project gives its text."""
        right = {"answer": self.answer} if self.kind == "problem" else {}
        about = {"id": Item(self.group, self.prompt).id(), "benchmark": self.benchmark, "kind": self.kind}
        return PROMPT.validate_python({**about, "group": self.group, "split": "eval", "text": self.prompt, **right})


class Brought(NamedTuple):
    """The items in the judge's order, and each variant's answers to all of them in that order."""

    items: list[AnyPrompt]
    answers: dict[str, list[Response]]

    def of_kind(self, kind: Kind) -> list[AnyPrompt]:
        """The items of one kind."""
        return [item for item in self.items if item.kind == kind]


def read_given(path: Path) -> dict[str, tuple[AnyPrompt, Response]]:
    """Item id -> the item and its answer, in the order of the file.

    Raises PipelineError when the file is missing or empty, a line is no such row, or a prompt comes twice.
    """
    try:
        lines = list(read_json_lines(path))
    except OSError as error:
        raise PipelineError(f"Expected answers in {path}, found {error.strerror}; check the path.") from None
    found: dict[str, tuple[AnyPrompt, Response]] = {}
    for line in lines:
        number, row = line.number, _parsed(line, f"{path} line {line.number}")
        item = row.asked()
        if item.id in found:
            raise PipelineError(
                f"Expected each prompt once in {path}, found that of line {number} before it, too; remove one of the "
                "two (capitals, spaces and punctuation make no difference)."
            )
        found[item.id] = (
            item,
            Response(id=item.id, text=row.response.strip(), finish_reason=row.finish_reason, tokens=row.tokens),
        )
    if not found:
        raise PipelineError(f"Expected at least one answer in {path}, found none.")
    return found


def bring(files: Mapping[str, Path]) -> Brought:
    """The answers of every variant; the first file, the base's, says which items there are.

    Raises PipelineError when a file cannot be read, or another one answers other items.
    """
    first, *others = files
    base = read_given(files[first])
    items = sorted((item for item, _ in base.values()), key=lambda item: KINDS.index(item.kind))
    there = {item.kind for item in items}
    if missing := [kind for kind in KINDS if kind not in there and kind not in OPTIONAL]:
        raise PipelineError(
            f"Expected harmful and benign prompts in {files[first]}, found no {missing[0]} one; add some: without both "
            "there is no price of safety."
        )
    found = {first: base} | {name: read_given(files[name]) for name in others}
    for name in others:
        _require_same(base, found[name], files[first], files[name])
    return Brought(items, {name: [rows[item.id][1] for item in items] for name, rows in found.items()})


def _parsed(line: JsonLine, where: str) -> GivenAnswer:
    problem: Any = {"loc": (), "msg": line.fault}
    row = None
    if line.fault is None:
        try:
            row = GivenAnswer.model_validate(line.value)
        except ValidationError as error:
            problem = error.errors()[0]
    if row is None:
        key = ".".join(map(str, problem["loc"])) or "the line"
        raise PipelineError(
            f"Expected a row with `kind`, `prompt` and `response` in {where}, found a fault in {key}: "
            f"{problem['msg']}; mend that row."
        )
    if row.kind == "problem" and row.answer is None:
        raise PipelineError(
            f"Expected the right final answer of the problem in {where}, found no `answer`; add it to the row."
        )
    return row


def _require_same(
    base: Mapping[str, tuple[AnyPrompt, Response]],
    other: Mapping[str, tuple[AnyPrompt, Response]],
    base_path: Path,
    other_path: Path,
) -> None:
    missing, more = _only_in(base, other), _only_in(other, base)
    if missing or more:
        example = (missing or more)[0]
        raise PipelineError(
            f"Expected {other_path} to answer the {len(base):,} prompts of {base_path}, found {len(missing):,} without "
            f"an answer and {len(more):,} other ones, such as {example.text[:60]!r}; give both files the same prompts."
        )
    for item, (asked, _) in base.items():
        if _right(asked) != _right(other[item][0]):
            raise PipelineError(
                f"Expected one `kind` and `answer` for the prompt {asked.text[:60]!r} in {base_path} and {other_path}, "
                "found two; correct one of the files."
            )


def _right(item: AnyPrompt) -> tuple[Kind, str | None]:
    return item.kind, item.answer if isinstance(item, Problem) else None


def _only_in(
    one: Mapping[str, tuple[AnyPrompt, Response]], other: Mapping[str, tuple[AnyPrompt, Response]]
) -> Sequence[AnyPrompt]:
    return [item for key, (item, _) in one.items() if key not in other]
