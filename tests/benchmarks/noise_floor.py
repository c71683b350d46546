"""Does the same model give the same verdicts alone, in other batches, beside other items, with other threads?

`python -m tests.benchmarks.noise_floor [MODEL] [--items N]`, after `dvc repro`: runs the model's base on the
first items of each benchmark in several ways, counts what differs from the first way, and keeps the counts in
`metrics/benchmarks/noise_floor.json`.
"""

import argparse
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.table import Table

from safety_tax.core.console import console, run_stage
from safety_tax.core.processors import usable_cores
from safety_tax.core.rows import ChatPrompt, ChoiceQuestion, ChoiceScore, Response, read_rows
from safety_tax.dispatch.runners import Here, ResumedRun
from safety_tax.dispatch.variant import respond, score_format
from safety_tax.engine.opening import engine_of
from safety_tax.engine.preparing import Asking, Examples, prepare
from safety_tax.judging.rules import judge
from safety_tax.judging.verdicts import outcome
from safety_tax.params import load_params
from safety_tax.settings.catalog import Model
from safety_tax.settings.stages import Infer, Run
from tests.benchmarks.results import keep

BENCHMARKS = Path("data/benchmarks")


@contextmanager
def cores(count: int) -> Iterator[None]:
    """Run on the first `count` of this process's cores."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, allowed)


Cut = Callable[[list[Any]], list[list[Any]]]


def together(items: list[Any]) -> list[list[Any]]:
    """All in one run."""
    return [items]


def one_by_one(items: list[Any]) -> list[list[Any]]:
    """Each in a run of its own."""
    return [[item] for item in items]


def halves(items: list[Any]) -> list[list[Any]]:
    """Every other one in a run, beside half of the neighbours that it has among all, and the rest in another."""
    return [items[::2], items[1::2]]


def measure(
    model: str,
    entry: Model,
    prompts: list[ChatPrompt],
    questions: list[ChoiceQuestion],
    settings: Infer,
    running: Run,
    cut: Cut,
) -> tuple[dict[str, Response], dict[str, float], dict[str, bool]]:
    """Responses, gold option scores (bits a byte) and outcomes by item id, of as many runs as `cut` makes."""
    folder = Path("models/onnx") / model / "base"
    run = ResumedRun(folder, running, Here.opened(folder, running))
    date = load_params().prompting.date
    asking = Asking.of(folder, model, entry, settings, running, date, engine_of(run.runner.choice))
    nothing = Examples({}, {})
    responses = [
        response
        for part in cut(prompts)
        for prepared in prepare(asking, part, {}, nothing)[0]
        for response in respond(run, prepared, asking.encoder.decode)
    ]
    prepared_questions = [prepare(asking, [], {"continuation": part}, nothing)[1] for part in cut(questions)]
    by_id = {question.id: question for question in questions}
    asked = [(part.items, score_format(run, part)) for forms in prepared_questions for part in forms.values()]
    gold, correct = {}, {}
    for item, of in (pair for part, scores in asked for pair in zip(part, scores, strict=True)):
        question = by_id[item.id]
        sizes = [len(choice.strip().encode()) for choice in question.choices]
        row = ChoiceScore(id=question.id, continuation_logprobs=of.logprobs, continuation_bytes=sizes)
        verdict = outcome(question, row, "continuation")
        gold[question.id] = verdict.bits_per_byte or 0.0
        correct[question.id] = bool(verdict.continuation_correct)
    return {response.id: response for response in responses}, gold, correct


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="smollm2_135m")
    parser.add_argument("--items", type=int, default=60, help="responses, and as many questions")
    arguments = parser.parse_args()
    params = load_params()
    settings, entry = params.run, params.model(arguments.model)
    by_kind = [read_rows(BENCHMARKS / f"{kind}.jsonl", ChatPrompt) for kind in ("harmful", "jailbreak", "benign")]
    prompts = [prompt for rows in by_kind for prompt in rows[: arguments.items // 3]]
    questions = read_rows(BENCHMARKS / "choice.jsonl", ChoiceQuestion)[: arguments.items]

    sevens = settings.model_copy(update={"rows_per_batch": 7, "scoring_tokens": 300, "pass_tokens": 150})
    ways = {
        "as params.yaml says": (settings, together, usable_cores()),
        "one item at a time": (settings, one_by_one, usable_cores()),
        "batches of at most 7": (sevens, together, usable_cores()),
        "every other item": (settings, halves, usable_cores()),
        "one thread": (settings, together, 1),
    }
    table = Table("way", "responses differ", "labels differ", "outcomes differ", "largest score difference")
    first = None
    report = {}
    for name, (way, cut, threads) in ways.items():
        console.quiet = cut is one_by_one  # a bar for each item would be many
        with cores(threads):
            found = measure(arguments.model, entry, prompts, questions, params.infer, way, cut)
        console.quiet = False
        first = first or found
        responses = sum(found[0][item].text != response.text for item, response in first[0].items())
        labels = sum(
            judge(found[0][item].text, found[0][item].finish_reason).label != judge(r.text, r.finish_reason).label
            for item, r in first[0].items()
        )
        outcomes = sum(found[2][item] != value for item, value in first[2].items())
        score = max(abs(found[1][item] - value) for item, value in first[1].items())
        table.add_row(
            name,
            f"{responses} of {len(prompts)}",
            f"{labels} of {len(prompts)}",
            f"{outcomes} of {len(questions)}",
            f"{score:.1e} bits a byte",
        )
        report[name] = {"responses": responses, "labels": labels, "outcomes": outcomes, "score": score}
    console.print(table)
    counts = {"responses": len(prompts), "questions": len(questions)}
    keep("noise_floor", **{arguments.model: {**counts, "differ": report}})


if __name__ == "__main__":
    run_stage(main)
