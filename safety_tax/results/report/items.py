"""What the report's browser of items holds: a small index to filter by, and the texts in chunks, read when needed."""

from collections.abc import Mapping, Sequence
from typing import Any

from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import (
    AnswerOutcome,
    ChoiceVerdict,
    InstructionVerdict,
    LabelVerdict,
    ProblemVerdict,
    Prompt,
    Response,
    Verdict,
)

CHUNK = 200  # items whose texts are parsed together


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


def item_index(
    prompts: Sequence[Prompt], verdicts: Mapping[str, Sequence[Verdict]], utility_format: str
) -> dict[str, Any]:
    """Columns, one entry an item, in the order of `prompts`; numbers stand for the names in the lists beside them.

    Raises PipelineError when a variant has no verdict on one of the prompts.
    """
    kinds, benchmarks, groups, labels, rules = (Codes() for _ in range(5))
    index: dict[str, Any] = {
        "chunk": CHUNK,
        "variants": list(verdicts),
        "ids": [prompt.id for prompt in prompts],
        "kind": [kinds.of(prompt.kind) for prompt in prompts],
        "benchmark": [benchmarks.of(prompt.benchmark) for prompt in prompts],
        "group": [groups.of(prompt.group) for prompt in prompts],
        "label": {},
        "rule": {},
        "cut": {},
        "looped": {},
    }
    for name, rows in verdicts.items():
        by_id = {row.id: row for row in rows}
        missing = sum(prompt.id not in by_id for prompt in prompts)
        if missing or len(by_id) != len(prompts):
            raise PipelineError(
                f"Expected verdicts of {name!r} on the {len(prompts):,} benchmark items, found {len(by_id):,} verdicts "
                f"and {missing:,} items without one; run `dvc repro`."
            )
        found = [by_id[prompt.id] for prompt in prompts]
        index["label"][name] = [labels.of(outcome(verdict, utility_format)) for verdict in found]
        index["rule"][name] = [
            rules.of(verdict.rule or "" if isinstance(verdict, LabelVerdict) else "") for verdict in found
        ]
        index["cut"][name] = [int(isinstance(verdict, AnswerOutcome) and verdict.truncated) for verdict in found]
        index["looped"][name] = [int(isinstance(verdict, LabelVerdict) and verdict.looped) for verdict in found]
    names = {"kinds": kinds, "benchmarks": benchmarks, "groups": groups, "labels": labels, "rules": rules}
    return index | {key: codes.names for key, codes in names.items()}


def text_chunks(prompts: Sequence[Prompt], responses: Mapping[str, Sequence[Response]]) -> list[list[dict[str, Any]]]:
    """The texts of the items, `CHUNK` at a time: the prompt, options and the right one, a response a variant.

    Of a problem, its right answer, too.

    Raises PipelineError when a variant has no response to a prompt.
    """
    by_id = {name: {row.id: row.text for row in rows} for name, rows in responses.items()}
    asked = {prompt.id for prompt in prompts if prompt.choices is None}
    for name, of in by_id.items():
        if missing := len(asked - set(of)):
            raise PipelineError(
                f"Expected responses of {name!r} to the {len(asked):,} prompts, found {missing:,} prompts without one; "
                "run `dvc repro`."
            )
    texts = []
    for prompt in prompts:
        text: dict[str, Any] = {"prompt": prompt.text}
        if prompt.choices is None:
            text["responses"] = [of[prompt.id] for of in by_id.values()]
        else:
            text |= {"choices": prompt.choices, "gold": prompt.gold}
        if prompt.kind == "problem":  # a harmless prompt's answer is one to tune on, not the right one
            text["answer"] = prompt.answer
        texts.append(text)
    return [texts[start : start + CHUNK] for start in range(0, len(texts), CHUNK)]
