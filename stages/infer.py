"""ONNX + benchmarks -> `data/responses/<model>/<variant>/`.  `python -m stages.infer MODEL VARIANT`

Answers to harmful, jailbreak and benign prompts, and the scores of every option of the questions.
"""

import argparse
import platform
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

from transformers import AutoConfig, AutoTokenizer, GenerationConfig, PreTrainedTokenizerBase

from stages.lib.console import progress_bar, run_stage, say
from stages.lib.errors import PipelineError
from stages.lib.files import folder_written_atomically, write_json
from stages.lib.inference.choice import Scores, score, tokenized
from stages.lib.inference.generation import Chooser, Limits, generate
from stages.lib.inference.grouped_choice import score_grouped
from stages.lib.inference.grouped_generation import generate_grouped
from stages.lib.inference.grouped_session import GROUPED_GRAPH, GroupedSession
from stages.lib.inference.session import CPU, CUDA, ModelSession, choose_provider, cuda_problem
from stages.lib.params import Infer, Model, load_params
from stages.lib.prompting import chat_token_ids, continuation_prompt, continuations, letter_prompt, letters
from stages.lib.rows import ChoiceScore, Prompt, Response, read_rows, write_rows

BENCHMARKS = Path("data/benchmarks")
GENERATED = ("harmful", "jailbreak", "benign")
Session = ModelSession | GroupedSession


def open_session(folder: Path, settings: Infer) -> Session:
    """The graph that `infer.provider` and `infer.attention` ask for.

    Raises PipelineError when they ask for what cannot be had.
    """
    provider = choose_provider(settings.provider)
    exported = (folder / GROUPED_GRAPH).exists()
    if settings.attention == "grouped_query" and not (provider == CPU and exported):
        found = f"no such file in {folder}" if provider == CPU else provider
        raise PipelineError(
            f"Expected {GROUPED_GRAPH} on the CPU, as infer.attention asks for, found {found}; set infer.attention to "
            "auto in params.yaml, or export.grouped_query to true and infer.provider to cpu."
        )
    if settings.attention != "plain" and provider == CPU and exported:
        return GroupedSession(folder)
    return ModelSession(folder, provider)


def require_fits(ids: Sequence[Sequence[int]], items: Sequence[Prompt], more: int, folder: Path) -> None:
    """Raises PipelineError when a prompt and `more` new tokens exceed the positions that the model has."""
    limit: int = AutoConfig.from_pretrained(folder).max_position_embeddings
    for tokens, item in zip(ids, items, strict=True):
        if len(tokens) + more > limit:
            raise PipelineError(
                f"Expected at most {limit:,} tokens, the model's context, found {len(tokens) + more:,} for the "
                f"{item.kind} item {item.id} about {item.group!r}; lower `shots` or `max_new_tokens` in params.yaml."
            )


def require_within_window(
    ids: Sequence[Sequence[int]], items: Sequence[Prompt], more: int, setting: str, folder: Path
) -> None:
    """Raises PipelineError when a prompt and the `more` tokens that may follow in its batch exceed a sliding window.

    The plain graph measures the window over the columns of a batch, padding included: a row whose past holds padding
    would see too few of its own tokens. Within the window every row sees all of them.
    """
    window: int | None = getattr(AutoConfig.from_pretrained(folder), "sliding_window", None)
    for tokens, item in zip(ids, items, strict=True):
        if window is not None and len(tokens) + more > window:
            raise PipelineError(
                f"Expected at most {window:,} tokens, the model's sliding window, found {len(tokens):,} for the "
                f"{item.kind} item {item.id} about {item.group!r} and up to {more:,} after them in its batch; lower "
                f"{setting} in params.yaml."
            )


def respond(
    session: Session, tokenizer: PreTrainedTokenizerBase, prompts: list[Prompt], model: str, settings: Infer
) -> list[Response]:
    """Answers, in the order of `prompts`."""
    choose = Chooser(session.folder, settings.temperature, settings.sampling_seed)
    limits = Limits(settings.max_new_tokens, settings.generation_tokens, settings.rows_per_batch)
    # A model may name several ends: of a turn, and of a text.
    ends = GenerationConfig.from_pretrained(session.folder).eos_token_id
    stop = frozenset([ends] if isinstance(ends, int) else ends or [tokenizer.eos_token_id])
    ids = [chat_token_ids(tokenizer, prompt.text, model) for prompt in prompts]
    require_fits(ids, prompts, settings.max_new_tokens, session.folder)
    if isinstance(session, ModelSession):
        require_within_window(ids, prompts, settings.max_new_tokens, "max_new_tokens", session.folder)
    with progress_bar() as progress:
        # How many tokens will come is not known: the total shrinks as answers end early.
        task = progress.add_task("answers ", total=len(prompts) * settings.max_new_tokens, unit="tokens")

        def advance(tokens: int) -> None:
            progress.advance(task, tokens)

        if isinstance(session, GroupedSession):
            done = generate_grouped(session, ids, stop, limits, settings.pass_tokens, choose, advance)
        else:
            done = generate(session, ids, stop, limits, choose, advance)
        progress.update(task, total=progress.tasks[task].completed)
    return [
        Response(
            id=prompt.id,
            text=tokenizer.decode(generated.tokens, skip_special_tokens=True).strip(),
            finish_reason=generated.finish_reason,
            tokens=len(generated.tokens),
        )
        for prompt, generated in zip(prompts, done, strict=True)
    ]


def score_format(
    session: Session,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[Prompt],
    form: str,
    settings: Infer,
    shots: Mapping[str, Sequence[Prompt]],
) -> list[Scores]:
    """Scores of all options in one format, `letter` (after the subject's `shots`) or `continuation`."""

    def context(question: Prompt) -> str:
        if form == "letter":
            return letter_prompt(question, shots.get(question.group, ()))
        return continuation_prompt(question)

    options = letters if form == "letter" else continuations

    def encode(text: str) -> list[int]:
        ids: list[int] = tokenizer(text)["input_ids"]
        return ids

    tokens = [tokenized(context(question), options(question), encode) for question in questions]
    longest = [max(question.full, key=len) for question in tokens]
    require_fits(longest, questions, 0, session.folder)
    if isinstance(session, ModelSession):
        # A long question may share its batch with another one's long option.
        tail = max(len(full) - question.shared() for question in tokens for full in question.full)
        require_within_window([question.context for question in tokens], questions, tail, "`shots`", session.folder)
    with progress_bar() as progress:
        task = progress.add_task(f"{form:8.8}", total=len(questions), unit="questions")

        def advance(count: int) -> None:
            progress.advance(task, count)

        if isinstance(session, GroupedSession):
            return score_grouped(session, tokens, settings.pass_tokens, advance)
        return score(session, tokens, settings.scoring_tokens, settings.rows_per_batch, advance)


def score_choices(
    session: Session,
    tokenizer: PreTrainedTokenizerBase,
    questions: list[Prompt],
    model: Model,
    other_format: int,
    settings: Infer,
    shots: Mapping[str, Sequence[Prompt]],
) -> list[ChoiceScore]:
    """Scores of all questions in the model's own format, and of the first `other_format` in the other."""
    own = model.utility_format
    other = "letter" if own == "continuation" else "continuation"
    counts = {own: len(questions), other: other_format}
    scores = {
        form: score_format(session, tokenizer, questions[:count], form, settings, shots) if count else []
        for form, count in counts.items()
    }
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
    return rows


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

    session = open_session(Path("models/onnx") / arguments.model / arguments.variant, settings)
    if settings.provider == "auto" and session.provider != CUDA:
        say(f"infer: on the CPU, because {cuda_problem()}")
    tokenizer = AutoTokenizer.from_pretrained(session.folder)
    name = f"{arguments.model} {arguments.variant}"
    attention = "grouped-query" if isinstance(session, GroupedSession) else "plain"
    say(
        f"infer: {name} on {session.provider}, {attention} attention, {len(prompts)} prompts, "
        f"{len(questions)} questions"
    )
    started = time.monotonic()
    responses = respond(session, tokenizer, prompts, arguments.model, settings)
    generated_at = time.monotonic()
    choices = score_choices(session, tokenizer, questions, model, other_format, settings, read_shots(model.shots))
    ended = time.monotonic()
    session.require_provider()

    with folder_written_atomically(Path("data/responses") / arguments.model / arguments.variant) as folder:
        write_rows(folder / "responses.jsonl", responses)
        write_rows(folder / "choices.jsonl", choices)
    tokens = sum(response.tokens for response in responses)
    # Facts about the run, not results: no stage depends on them, or a slower machine would dirty the pipeline.
    write_json(
        Path("runs") / arguments.model / f"{arguments.variant}.json",
        {
            "provider": session.provider,
            "attention": attention,
            "machine": platform.processor() or platform.machine(),
            "generated_tokens": tokens,
            "generation_seconds": round(generated_at - started, 2),
            "questions": len(questions),
            "choice_seconds": round(ended - generated_at, 2),
        },
    )
    say(
        f"infer: {name}, {tokens:,} tokens in {generated_at - started:.0f} s, "
        f"{len(questions)} questions in {ended - generated_at:.0f} s"
    )


if __name__ == "__main__":
    run_stage(main)
