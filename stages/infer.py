"""ONNX + benchmarks -> `data/responses/<model>/<variant>/`.  `python -m stages.infer MODEL VARIANT`

Answers to harmful, jailbreak and benign prompts, problems and instructions, and the scores of every option of the
questions. A run that was stopped goes on with the items that are not in its journal,
`runs/journal/<model>/<variant>.jsonl`.
"""

import argparse
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from safety_tax.core.console import progress_bar, run_stage, say
from safety_tax.core.files import folder_written_atomically, write_json
from safety_tax.core.rows import (
    GENERATED,
    ChoiceScore,
    Prompt,
    Response,
    read_examples,
    read_items,
    write_rows,
)
from safety_tax.dispatch.journal import Journal, folder_digest
from safety_tax.dispatch.processes import Processes
from safety_tax.dispatch.runners import Here, ResumedRun, Runner
from safety_tax.engine.choice import Scores
from safety_tax.engine.devices import visible_devices
from safety_tax.engine.generation import Generated
from safety_tax.engine.open_session import Choice, choose
from safety_tax.engine.parts import Answers
from safety_tax.engine.preparing import Asking, Examples, Form, Prepared, examples_of, prepare
from safety_tax.engine.session import CPU, CUDA, choose_provider, cuda_problem
from safety_tax.params import Model, Params, Run, load_params
from safety_tax.tokens.chat_template import tells_date

BENCHMARKS = Path("data/benchmarks")


class Asked(NamedTuple):
    """What a variant is asked: prompts to answer, questions, those of each format, and the examples before them."""

    prompts: list[Prompt]
    questions: list[Prompt]
    forms: dict[Form, list[Prompt]]
    examples: Examples


def start_runner(folder: Path, settings: Run, weights: str) -> tuple[Runner, int]:
    """Who runs the items, as `run.cluster` and `run.processes` say, and how many processes they are.

    Raises PipelineError when they ask for what cannot be had.
    """
    if settings.cluster != "none":
        from safety_tax.dispatch.cluster import Cluster  # Ray is an extra, and takes a second to import

        cluster = Cluster(folder, settings, weights)
        return cluster, cluster.slots
    on_cuda = choose(folder, settings).provider == CUDA
    devices = visible_devices() if on_cuda and settings.processes != 1 else []
    count = max(1, len(devices)) if settings.processes == "auto" else settings.processes
    if count == 1:
        return Here.opened(folder, settings), 1
    return Processes(folder, settings, count, devices), count


def respond(run: ResumedRun, prepared: Prepared, decode: Callable[[list[int]], str]) -> list[Response]:
    """Answers, in the order of the prepared items."""
    part = prepared.part
    assert isinstance(part, Answers)
    with progress_bar() as progress:
        # How many tokens will come is not known: the total shrinks as answers end early.
        task = progress.add_task(part.name, total=len(part.items) * part.max_new_tokens, unit="tokens")
        done = run.results(
            part, say, lambda tokens: progress.advance(task, tokens), lambda tokens: progress.take_up(task, tokens)
        )
        progress.update(task, total=progress.tasks[task].completed)
    responses = []
    for item, generated in zip(prepared.items, done, strict=True):
        assert isinstance(generated, Generated)
        text = decode(generated.tokens)
        responses.append(
            Response(
                id=item.id,
                text=(part.stop_text.before(text) if part.stop_text else text).strip(),
                finish_reason=generated.finish_reason,
                tokens=len(generated.tokens),
            )
        )
    return responses


def score_format(run: ResumedRun, prepared: Prepared) -> list[Scores]:
    """Scores of all options in one format, in the order of the prepared questions."""
    part = prepared.part
    with progress_bar() as progress:
        task = progress.add_task(part.name, total=len(part.items), unit="questions")
        done = run.results(
            part, say, lambda count: progress.advance(task, count), lambda count: progress.take_up(task, count)
        )
        progress.update(task, completed=len(part.items))
    return [scores for scores in done if isinstance(scores, Scores)]


def asked_in(own: Form, questions: list[Prompt], other_format: int | Literal["all"]) -> dict[Form, list[Prompt]]:
    """The questions of each format: all in the model's own, the first `other_format` in the other."""
    other: Form = "letter" if own == "continuation" else "continuation"
    return {own: questions, other: questions if other_format == "all" else questions[:other_format]}


def choice_scores(questions: list[Prompt], scores: Mapping[Form, list[Scores]]) -> list[ChoiceScore]:
    """A row for every question, from the scores of the first so many in each format."""
    rows = []
    for place, question in enumerate(questions):
        letter, continuation = (
            of[place] if place < len(of := scores.get(form, [])) else None for form in ("letter", "continuation")
        )
        rows.append(
            ChoiceScore(
                id=question.id,
                letter_logprobs=letter.logprobs if letter else None,
                letter_mass=letter.first_token_mass if letter else None,
                continuation_logprobs=continuation.logprobs if continuation else None,
                continuation_bytes=[len(choice.strip().encode()) for choice in question.choices or []],
            )
        )
    return rows


def read_asked(params: Params, model: Model) -> Asked:
    """What the model is asked. Raises PipelineError when a file is missing or damaged."""
    prompts = [prompt for kind in GENERATED for prompt in read_items(BENCHMARKS, kind)]
    questions = read_items(BENCHMARKS, "choice")
    shown = model.shots > 0 or model.problem_format == "worked_examples"
    examples = examples_of(read_examples(BENCHMARKS / "shots.jsonl") if shown else [], model)
    forms = asked_in(model.utility_format, questions, params.sample_sizes().other_format)
    return Asked(prompts, questions, forms, examples)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("variant", help="`base`, or a recipe's name")
    arguments = parser.parse_args()
    params = load_params()
    model, settings = params.model(arguments.model), params.run
    if arguments.variant != "base":
        params.recipe(arguments.variant)
    asked = read_asked(params, model)

    folder = Path("models/onnx") / arguments.model / arguments.variant
    name = f"{arguments.model} {arguments.variant}"
    # Asked first: without what `provider` wants there is nothing to read.
    here = choose(folder, settings) if settings.cluster == "none" else None
    if here and choose_provider(settings.provider) == CPU and settings.provider == "auto":
        say(f"infer: on the CPU, because {cuda_problem()}")

    def prepared_for(choice: Choice) -> tuple[Asking, list[Prepared], dict[Form, Prepared]]:
        asking = Asking.of(
            folder, arguments.model, model, params.infer, settings, params.prompting.date, choice.grouped
        )
        return asking, *prepare(asking, asked.prompts, asked.forms, asked.examples)

    # Before the weights are read, which takes minutes for a large model; a cluster says only then which graph it runs.
    ready = prepared_for(here) if here else None
    journal = Journal(Path("runs/journal") / arguments.model / f"{arguments.variant}.jsonl")
    if journal.dropped:
        say(f"infer: {journal.dropped} torn or damaged lines of {journal.path} are left out; their items run again")
    weights = folder_digest(folder)
    runner, processes = start_runner(folder, settings, weights)
    try:
        choice = runner.choice
        asking, answers, forms = ready or prepared_for(choice)
        say(
            f"infer: {name} on {choice.provider}, {choice.attention()} attention, {len(asked.prompts)} prompts, "
            f"{len(asked.questions)} questions" + (f", {processes} processes" if processes > 1 else "")
        )
        if settings.attention == "auto" and not choice.grouped:
            reason = "the faster graph is for the CPU" if choice.provider == CUDA else "the export wrote no other graph"
            say(f"infer: plain attention, because {reason}")
        run = ResumedRun(folder, settings, runner, journal, weights)
        started = time.monotonic()
        answered = {
            (item.kind, item.id): response
            for part in answers
            for item, response in zip(part.items, respond(run, part, asking.encoder.decode), strict=True)
        }
        generated_at = time.monotonic()
        scores = {form: score_format(run, part) for form, part in forms.items()}
        ended = time.monotonic()
    finally:
        runner.close()

    told = params.prompting.date.isoformat() if tells_date(asking.encoder.tokenizer, arguments.model) else None
    responses = [answered[prompt.kind, prompt.id].model_copy(update={"told_date": told}) for prompt in asked.prompts]
    with folder_written_atomically(Path("data/responses") / arguments.model / arguments.variant) as output:
        write_rows(output / "responses.jsonl", responses)
        write_rows(output / "choices.jsonl", choice_scores(asked.questions, scores))
    journal.remove()
    cut_prompts = [item for part in answers for item in part.truncated]
    cut_questions = [item for part in forms.values() for item in part.truncated]
    tokens, truncated = sum(response.tokens or 0 for response in responses), len(cut_prompts) + len(cut_questions)
    # Facts about the run, not results: no stage depends on them, or a slower machine would dirty the pipeline.
    record = Path("runs") / arguments.model / f"{arguments.variant}.json"
    write_json(
        record,
        {
            "provider": choice.provider,
            "attention": choice.attention(),
            "machine": platform.processor() or platform.machine(),
            "processes": processes,
            "generated_tokens": tokens,
            "generation_seconds": round(generated_at - started, 2),
            "questions": len(asked.questions),
            "choice_seconds": round(ended - generated_at, 2),
            "resumed_items": run.resumed,
            "truncated_prompts": cut_prompts,
            "truncated_questions": cut_questions,
        },
    )
    say(
        f"infer: {name}, {tokens:,} tokens in {generated_at - started:.0f} s, "
        f"{len(asked.questions)} questions in {ended - generated_at:.0f} s"
        + (f", {run.resumed:,} items from the journal" if run.resumed else "")
        + (f", {truncated:,} truncated on the left, named in {record}" if truncated else "")
    )


if __name__ == "__main__":
    run_stage(main, torch=False)
