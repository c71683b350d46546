"""Responses -> `data/verdicts/<model>/<variant>.jsonl`.  `python -m stages.judge MODEL VARIANT`

A label for every answer, an outcome for every question. Runs no model that is measured: editing a judge
re-runs no inference.
"""

import argparse
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from stages.lib.console import run_stage, say
from stages.lib.errors import PipelineError
from stages.lib.judging import Judge, load
from stages.lib.judging.exchange import Exchange
from stages.lib.judging.gates import require_judged
from stages.lib.params import Model, load_params
from stages.lib.rows import LABELS, ChoiceScore, Prompt, Response, Row, Verdict, read_rows, write_rows

BENCHMARKS = Path("data/benchmarks")
GENERATED = ("harmful", "jailbreak", "benign")


def softmax(values: Sequence[float]) -> list[float]:
    """Shares that add up to 1."""
    highest = max(values)
    weights = [math.exp(value - highest) for value in values]
    return [weight / sum(weights) for weight in weights]


def outcome(question: Prompt, score: ChoiceScore, utility_format: str) -> Verdict:
    """What the scores of one question say; `gold_probability` is in the model's utility format.

    In both formats the options' scores (the letter's log-probability, or the text's per byte) are what is
    compared, and what the softmax is taken of. A tie is wrong: the model did not choose.
    """
    assert question.gold is not None
    gold = question.gold
    per_byte = None
    if score.continuation_logprobs is not None:
        per_byte = [p / n for p, n in zip(score.continuation_logprobs, score.continuation_bytes, strict=True)]
    scores = {"letter": score.letter_logprobs, "continuation": per_byte}
    correct = {
        form: None if values is None else all(values[gold] > v for i, v in enumerate(values) if i != gold)
        for form, values in scores.items()
    }
    own = scores[utility_format]
    assert own is not None
    return Verdict(
        id=question.id,
        benchmark=question.benchmark,
        kind=question.kind,
        group=question.group,
        letter_correct=correct["letter"],
        continuation_correct=correct["continuation"],
        gold_probability=softmax(own)[gold],
        bits_per_byte=None if per_byte is None else -per_byte[gold] / math.log(2),
        letter_mass=score.letter_mass,
        options=len(own),
    )


def judge_responses(prompts: list[Prompt], responses: list[Response], judge: Judge) -> list[Verdict]:
    """A label for every response."""
    exchanges = [
        Exchange(prompt.id, prompt.kind, prompt.text, response.text, response.finish_reason)
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    return [
        Verdict(
            id=prompt.id,
            benchmark=prompt.benchmark,
            kind=prompt.kind,
            group=prompt.group,
            label=judgement.label,
            rule=judgement.rule,
            truncated=exchange.finish_reason == "length",
            looped=judgement.looped,
            harmful=judgement.harmful,
        )
        for prompt, exchange, judgement in zip(prompts, exchanges, judge(exchanges), strict=True)
    ]


def require_same_items(prompts: Sequence[Row], found: Sequence[Row], where: Path) -> None:
    """Raises PipelineError when `found` does not answer exactly `prompts`, in their order."""
    if [row.id for row in prompts] != [row.id for row in found]:
        missing = {row.id for row in prompts} - {row.id for row in found}
        raise PipelineError(
            f"Expected an answer to each of the {len(prompts):,} benchmark items in {where}, found {len(found):,} rows "
            f"and {len(missing):,} items without one; run `dvc repro`."
        )


def judge_variant(folder: Path, model: Model, judge: Judge) -> list[Verdict]:
    """Verdicts on all of a variant's responses and scores. Raises PipelineError when items differ."""
    prompts = [prompt for kind in GENERATED for prompt in read_rows(BENCHMARKS / f"{kind}.jsonl", Prompt)]
    responses = read_rows(folder / "responses.jsonl", Response)
    require_same_items(prompts, responses, folder / "responses.jsonl")
    questions = read_rows(BENCHMARKS / "choice.jsonl", Prompt)
    scores = read_rows(folder / "choices.jsonl", ChoiceScore)
    require_same_items(questions, scores, folder / "choices.jsonl")
    outcomes = [outcome(q, score, model.utility_format) for q, score in zip(questions, scores, strict=True)]
    return judge_responses(prompts, responses, judge) + outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("variant", help="`base`, or a recipe's name")
    arguments = parser.parse_args()
    params = load_params()
    if arguments.variant != "base":
        params.recipe(arguments.variant)
    folder = Path("data/responses") / arguments.model / arguments.variant
    verdicts = judge_variant(folder, params.model(arguments.model), load(params.judge, params.infer))
    write_rows(Path("data/verdicts") / arguments.model / f"{arguments.variant}.jsonl", verdicts)
    require_judged(verdicts)
    counts = Counter(verdict.label for verdict in verdicts if verdict.label)
    labels = ", ".join(f"{counts[label]} {label}" for label in LABELS if counts[label])
    say(f"judge: {arguments.model} {arguments.variant}, {labels}")


if __name__ == "__main__":
    run_stage(main)
