"""ONNX + benchmarks -> `data/responses/<model>/<variant>/`.  `python -m stages.infer MODEL VARIANT`

Answers to harmful, jailbreak and benign prompts, and the scores of every option of the questions. A run that was
stopped goes on with the items that are not in its journal, `runs/journal/<model>/<variant>.jsonl`.
"""

import argparse
import platform
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stages.lib.console import progress_bar, run_stage, say
from stages.lib.files import folder_written_atomically, write_json
from stages.lib.inference.choice import Scores, tokenized
from stages.lib.inference.devices import visible_devices
from stages.lib.inference.generation import Generated, StopText
from stages.lib.inference.item_checks import (
    context_of,
    require_fits,
    require_in_budget,
    require_text,
    require_within_window,
    title,
    without_beginning,
)
from stages.lib.inference.journal import Journal, folder_digest
from stages.lib.inference.open_session import choose
from stages.lib.inference.parts import Answers, Questions
from stages.lib.inference.processes import Processes
from stages.lib.inference.runners import Here, Run, Runner
from stages.lib.inference.session import CPU, CUDA, choose_provider, cuda_problem
from stages.lib.params import Infer, Model, load_params
from stages.lib.prompting import chat_token_ids, continuation_prompt, continuations, letter_prompt, letters
from stages.lib.rows import ChoiceScore, Prompt, Response, read_rows, write_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

BENCHMARKS = Path("data/benchmarks")
GENERATED = ("harmful", "jailbreak", "benign")


def start_runner(folder: Path, settings: Infer, weights: str) -> tuple[Runner, int]:
    """Who runs the items, as `infer.cluster` and `infer.processes` say, and how many processes they are.

    Raises PipelineError when they ask for what cannot be had.
    """
    if settings.cluster != "none":
        from stages.lib.inference.cluster import Cluster  # Ray is an extra, and takes a second to import

        cluster = Cluster(folder, settings, weights)
        return cluster, cluster.slots
    on_cuda = choose(folder, settings).provider == CUDA
    devices = visible_devices() if on_cuda and settings.processes != 1 else []
    count = max(1, len(devices)) if settings.processes == "auto" else settings.processes
    if count == 1:
        return Here.opened(folder, settings), 1
    return Processes(folder, settings, count, devices), count


def answers_part(
    tokenizer: "PreTrainedTokenizerBase",
    prompts: list[Prompt],
    model: str,
    stop_text: StopText | None,
    settings: Infer,
    run: Run,
) -> tuple[Answers, list[str]]:
    """What to answer, and the ids of prompts that lost their beginning to the model's context, as `infer.truncate`
    allows.
    """
    from transformers import GenerationConfig

    # A model may name several ends: of a turn, and of a text.
    ends = GenerationConfig.from_pretrained(run.folder).eos_token_id
    stop = frozenset([ends] if isinstance(ends, int) else ends or [tokenizer.eos_token_id])
    require_text(prompts)
    ids = [chat_token_ids(tokenizer, prompt.text, model) for prompt in prompts]
    room, truncated = context_of(run.folder) - settings.max_new_tokens, list[str]()
    if settings.truncate == "left" and room > 0:
        truncated = [prompt.id for tokens, prompt in zip(ids, prompts, strict=True) if len(tokens) > room]
        ids = [tokens[-room:] for tokens in ids]
    require_fits(ids, prompts, settings.max_new_tokens, run.folder)
    if not run.runner.choice.grouped:
        require_within_window(ids, prompts, settings.max_new_tokens, "max_new_tokens", run.folder)
    lengths = [len(tokens) + settings.max_new_tokens for tokens in ids]
    require_in_budget(lengths, prompts, settings.generation_tokens, "generation_tokens")
    return Answers("answers", ids, stop, [title(prompt) for prompt in prompts], stop_text), truncated


def respond(
    run: Run,
    tokenizer: "PreTrainedTokenizerBase",
    prompts: list[Prompt],
    name: str,
    model: Model,
    settings: Infer,
) -> tuple[list[Response], list[str]]:
    """Answers, in the order of `prompts`, and the ids of those that were truncated."""
    decode = partial(tokenizer.decode, skip_special_tokens=True)
    stop_text = StopText(tuple(model.stop), decode) if model.stop else None
    part, truncated = answers_part(tokenizer, prompts, name, stop_text, settings, run)
    with progress_bar() as progress:
        # How many tokens will come is not known: the total shrinks as answers end early.
        task = progress.add_task("answers", total=len(prompts) * settings.max_new_tokens, unit="tokens")
        done = run.results(part, say, lambda tokens: progress.advance(task, tokens))
        progress.update(task, total=progress.tasks[task].completed)
    responses = []
    for prompt, generated in zip(prompts, done, strict=True):
        assert isinstance(generated, Generated)
        text = decode(generated.tokens)
        responses.append(
            Response(
                id=prompt.id,
                text=(stop_text.before(text) if stop_text else text).strip(),
                finish_reason=generated.finish_reason,
                tokens=len(generated.tokens),
            )
        )
    return responses, truncated


def score_format(
    run: Run,
    tokenizer: "PreTrainedTokenizerBase",
    questions: list[Prompt],
    form: str,
    settings: Infer,
    shots: Mapping[str, Sequence[Prompt]],
) -> tuple[list[Scores], list[str]]:
    """Scores of all options in one format, `letter` (after the subject's `shots`) or `continuation`.

    And the ids of questions that lost their beginning to the model's context, as `infer.truncate` allows.
    """

    def context(question: Prompt) -> str:
        if form == "letter":
            return letter_prompt(question, shots.get(question.group, ()))
        return continuation_prompt(question)

    options = letters if form == "letter" else continuations

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text)["input_ids"]
        return ids

    require_text(questions)
    tokens = [tokenized(context(question), options(question), encode) for question in questions]
    truncated: list[str] = []
    if settings.truncate == "left":
        limit = context_of(run.folder)
        # The grouped-query graph runs a question's options one after another, each of which sees its own tokens only.
        cut = [without_beginning(question, limit, run.runner.choice.grouped) for question in tokens]
        truncated = [
            question.id
            for question, before, after in zip(questions, tokens, cut, strict=True)
            if len(after.context) < len(before.context)
        ]
        tokens = cut
    longest = [max(question.full, key=len) for question in tokens]
    require_fits(longest, questions, 0, run.folder)
    if not run.runner.choice.grouped:
        # A long question may share its batch with another one's long option.
        tail = max(len(full) - question.shared() for question in tokens for full in question.full)
        require_within_window([question.context for question in tokens], questions, tail, "`shots`", run.folder)
        # The grouped-query graph runs a longer question in several passes.
        require_in_budget([q.shared() for q in tokens], questions, settings.scoring_tokens, "scoring_tokens")
    part = Questions(form, tokens, [title(question) for question in questions])
    with progress_bar() as progress:
        task = progress.add_task(form, total=len(questions), unit="questions")
        done = run.results(part, say, lambda count: progress.advance(task, count))
        progress.update(task, completed=len(questions))
    return [scores for scores in done if isinstance(scores, Scores)], truncated


def score_choices(
    run: Run,
    tokenizer: "PreTrainedTokenizerBase",
    questions: list[Prompt],
    model: Model,
    other_format: int,
    settings: Infer,
    shots: Mapping[str, Sequence[Prompt]],
) -> tuple[list[ChoiceScore], list[str]]:
    """Scores of all questions in the model's own format, and of the first `other_format` in the other.

    And the ids of those that were truncated, once for each format.
    """
    own = model.utility_format
    other = "letter" if own == "continuation" else "continuation"
    counts = {own: len(questions), other: other_format}
    scores: dict[str, list[Scores]] = {own: [], other: []}
    truncated: list[str] = []
    for form, count in counts.items():
        if count:
            scores[form], cut = score_format(run, tokenizer, questions[:count], form, settings, shots)
            truncated += cut
    rows = []
    for place, question in enumerate(questions):
        letter = scores["letter"][place] if place < counts["letter"] else None
        continuation = scores["continuation"][place] if place < counts["continuation"] else None
        rows.append(
            ChoiceScore(
                id=question.id,
                letter_logprobs=letter.logprobs if letter else None,
                letter_mass=letter.first_token_mass if letter else None,
                continuation_logprobs=continuation.logprobs if continuation else None,
                continuation_bytes=[len(choice.strip().encode()) for choice in question.choices or []],
            )
        )
    return rows, truncated


def read_shots(count: int) -> dict[str, list[Prompt]]:
    """The first `count` dev questions of each subject, in the official order; empty for none."""
    shots: dict[str, list[Prompt]] = defaultdict(list)
    for shot in read_rows(BENCHMARKS / "shots.jsonl", Prompt) if count else []:
        if len(shots[shot.group]) < count:
            shots[shot.group].append(shot)
    return shots


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("variant", help="`base`, or a recipe's name")
    arguments = parser.parse_args()
    params = load_params()
    model, settings = params.model(arguments.model), params.infer
    if arguments.variant != "base":
        params.recipe(arguments.variant)
    prompts = [prompt for kind in GENERATED for prompt in read_rows(BENCHMARKS / f"{kind}.jsonl", Prompt)]
    questions = read_rows(BENCHMARKS / "choice.jsonl", Prompt)
    size = params.sample_sizes().other_format
    other_format = len(questions) if size == "all" else min(size, len(questions))

    folder = Path("models/onnx") / arguments.model / arguments.variant
    name = f"{arguments.model} {arguments.variant}"
    # Asked first: without what `provider` wants there is nothing to read.
    if settings.cluster == "none" and choose_provider(settings.provider) == CPU and settings.provider == "auto":
        say(f"infer: on the CPU, because {cuda_problem()}")
    from transformers import AutoTokenizer  # only here: it takes a second

    tokenizer = AutoTokenizer.from_pretrained(folder)
    journal = Journal(Path("runs/journal") / arguments.model / f"{arguments.variant}.jsonl")
    if journal.dropped:
        say(f"infer: {journal.dropped} torn or damaged lines of {journal.path} are left out; their items run again")
    weights = folder_digest(folder)
    runner, processes = start_runner(folder, settings, weights)
    try:
        choice = runner.choice
        say(
            f"infer: {name} on {choice.provider}, {choice.attention()} attention, {len(prompts)} prompts, "
            f"{len(questions)} questions" + (f", {processes} processes" if processes > 1 else "")
        )
        if settings.attention == "auto" and not choice.grouped:
            reason = "the faster graph is for the CPU" if choice.provider == CUDA else "the export wrote no other graph"
            say(f"infer: plain attention, because {reason}")
        run = Run(folder, settings, runner, journal, weights)
        started = time.monotonic()
        responses, cut_prompts = respond(run, tokenizer, prompts, arguments.model, model, settings)
        generated_at = time.monotonic()
        choices, cut_questions = score_choices(
            run, tokenizer, questions, model, other_format, settings, read_shots(model.shots)
        )
        ended = time.monotonic()
    finally:
        runner.close()

    with folder_written_atomically(Path("data/responses") / arguments.model / arguments.variant) as output:
        write_rows(output / "responses.jsonl", responses)
        write_rows(output / "choices.jsonl", choices)
    journal.remove()
    tokens, truncated = sum(response.tokens for response in responses), len(cut_prompts) + len(cut_questions)
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
            "questions": len(questions),
            "choice_seconds": round(ended - generated_at, 2),
            "resumed_items": run.resumed,
            "truncated_prompts": cut_prompts,
            "truncated_questions": cut_questions,
        },
    )
    say(
        f"infer: {name}, {tokens:,} tokens in {generated_at - started:.0f} s, "
        f"{len(questions)} questions in {ended - generated_at:.0f} s"
        + (f", {run.resumed:,} items from the journal" if run.resumed else "")
        + (f", {truncated:,} truncated on the left, named in {record}" if truncated else "")
    )


if __name__ == "__main__":
    run_stage(main, torch=False)
