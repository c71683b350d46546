"""One variant's run: what it is asked, who runs it, and its answers and scores as rows."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

from safety_tax.core.console import progress_bar, say
from safety_tax.core.rows import (
    GENERATED,
    ChoiceScore,
    Prompt,
    Response,
    read_examples,
    read_items,
)
from safety_tax.core.workspace import BENCHMARKS
from safety_tax.dispatch.processes import Processes
from safety_tax.dispatch.runners import Here, ResumedRun, Runner
from safety_tax.engine.choice import Scores
from safety_tax.engine.devices import visible_devices
from safety_tax.engine.generation import Generated
from safety_tax.engine.open_session import choose
from safety_tax.engine.parts import Answers
from safety_tax.engine.preparing import Examples, Form, Prepared, examples_of
from safety_tax.engine.session import CUDA
from safety_tax.params import Model, Params, Run


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
