"""What the report's browser of items holds: a small index to filter by, and the texts in chunks, read when needed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import (
    AnswerOutcome,
    ChoiceQuestion,
    ChoiceVerdict,
    InstructionVerdict,
    LabelVerdict,
    Problem,
    ProblemVerdict,
    Prompt,
    Response,
    Verdict,
)

CHUNK = 200  # items whose texts are parsed together


class Browsed(NamedTuple):
    """One variant whose answers can be read."""

    model: str
    name: str
    label: str
    """What the browser calls it."""
    reference: int
    """Place of the variant that it is compared with, unless the reader chooses another."""
    utility_format: str
    verdicts: Sequence[Verdict]
    responses: Sequence[Response] | None
    """None where the answers of an older revision are not to be had."""
    now: bool = True
    """False for an older revision."""


class Codes:
    """Names as small numbers, in the order of their first use."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._numbers: dict[str, int] = {}

    def of(self, name: str) -> int:
        """The number of a name."""
        if name not in self._numbers:
            self._numbers[name] = len(self.names)
            self.names.append(name)
        return self._numbers[name]


def outcome(verdict: Verdict, utility_format: str) -> str:
    """`right` or `wrong` for a question or a problem, `followed` or `not followed` for an instruction, else the label.

    Raises PipelineError when a question was not scored in the model's format.
    """
    match verdict:
        case LabelVerdict():
            return verdict.label
        case InstructionVerdict():
            return "followed" if verdict.followed else "not followed"
        case ProblemVerdict():
            correct: bool | None = verdict.answer_correct
        case ChoiceVerdict():
            correct = verdict.letter_correct if utility_format == "letter" else verdict.continuation_correct
    if correct is None:
        raise PipelineError(
            f"Expected what the judge made of the {verdict.kind} item {verdict.id} in the format {utility_format}, "
            "found nothing; run `dvc repro`."
        )
    return "right" if correct else "wrong"


def item_index(prompts: Sequence[Prompt], variants: Sequence[Browsed]) -> dict[str, Any]:
    """Columns, one entry an item, in the order of `prompts`; numbers stand for the names in the lists beside them.

    Raises PipelineError when a variant has no verdict on one of the prompts.
    """
    kinds, benchmarks, groups, labels, rules = (Codes() for _ in range(5))
    index: dict[str, Any] = {
        "chunk": CHUNK,
        "variants": [variant.label for variant in variants],
        "reference": [variant.reference for variant in variants],
        "ids": [prompt.id for prompt in prompts],
        "kind": [kinds.of(prompt.kind) for prompt in prompts],
        "benchmark": [benchmarks.of(prompt.benchmark) for prompt in prompts],
        "group": [groups.of(prompt.group) for prompt in prompts],
        "label": [],
        "rule": [],
        "cut": [],
        "looped": [],
    }
    for variant in variants:
        by_id = {row.id: row for row in variant.verdicts}
        missing = sum(prompt.id not in by_id for prompt in prompts)
        if missing or len(by_id) != len(prompts):
            raise PipelineError(
                f"Expected verdicts of {variant.label!r} on the {len(prompts):,} benchmark items, found "
                f"{len(by_id):,} verdicts and {missing:,} items without one; run `dvc repro`."
            )
        found = [by_id[prompt.id] for prompt in prompts]
        index["label"].append([labels.of(outcome(verdict, variant.utility_format)) for verdict in found])
        index["rule"].append([rules.of(of.rule or "" if isinstance(of, LabelVerdict) else "") for of in found])
        index["cut"].append([int(isinstance(of, AnswerOutcome) and of.truncated) for of in found])
        index["looped"].append([int(isinstance(of, LabelVerdict) and of.looped) for of in found])
    names = {"kinds": kinds, "benchmarks": benchmarks, "groups": groups, "labels": labels, "rules": rules}
    return index | {key: codes.names for key, codes in names.items()}


def text_chunks(prompts: Sequence[Prompt], variants: Sequence[Browsed]) -> list[list[dict[str, Any]]]:
    """The texts of the items, `CHUNK` at a time: the prompt, options and the right one, a response a variant.

    Of a problem, its right answer, too. A response is None where a variant's are not to be had.

    Raises PipelineError when a variant has no response to a prompt.
    """
    asked = {prompt.id for prompt in prompts if not isinstance(prompt, ChoiceQuestion)}
    by_id: list[dict[str, str] | None] = []
    for variant in variants:
        of = None if variant.responses is None else {row.id: row.text for row in variant.responses}
        if of is not None and (missing := len(asked - set(of))):
            raise PipelineError(
                f"Expected responses of {variant.label!r} to the {len(asked):,} prompts, found {missing:,} prompts "
                "without one; run `dvc repro`."
            )
        by_id.append(of)
    texts = []
    for prompt in prompts:
        text: dict[str, Any] = {"prompt": prompt.text}
        if isinstance(prompt, ChoiceQuestion):
            text |= {"choices": prompt.choices, "gold": prompt.gold}
        else:
            text["responses"] = [None if of is None else of[prompt.id] for of in by_id]
        if isinstance(prompt, Problem):
            text["answer"] = prompt.answer
        texts.append(text)
    return [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
