"""What a variant is asked, made ready: token ids in parts, and all faults that can be known before the first answer."""

import datetime
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from safety_tax.core.errors import PipelineError
from safety_tax.core.prompting import (
    NEXT_QUESTION,
    WORKED_EXAMPLES,
    continuation_prompt,
    continuations,
    letter_prompt,
    letters,
    reasoning_request,
    worked_prompt,
)
from safety_tax.core.rows import AnyPrompt, ChatPrompt, ChoiceQuestion, Problem, Prompt
from safety_tax.engine.item_checks import (
    Faults,
    Reach,
    check_budget,
    check_context,
    check_labels,
    check_options,
    check_rows,
    check_scored,
    check_texts,
    check_window,
    reach_of,
    title,
    without_beginning,
)
from safety_tax.engine.protocol import Answers, Engine, Question, Questions, Sampling, StopText
from safety_tax.settings.catalog import Model
from safety_tax.settings.stages import Infer, Run
from safety_tax.tokens.encoder import Encoder
from safety_tax.tokens.ends import Stops, stops_of

Form = Literal["letter", "continuation"]


class Examples(NamedTuple):
    """Solved items that come before others: MMLU's dev questions by subject, worked problems by dataset."""

    shots: Mapping[str, Sequence[ChoiceQuestion]]
    worked: Mapping[str, Sequence[Problem]]


class Prepared(NamedTuple):
    """A part, and the ids of its items that lost their beginning to the model's context, as `infer.truncate` allows."""

    part: Answers | Questions
    items: Sequence[Prompt]
    truncated: list[str]


@dataclass(frozen=True)
class Asking:
    """The model that is asked, and how."""

    name: str
    """In `catalog`."""
    model: Model
    settings: Infer
    run: Run
    encoder: Encoder
    reach: Reach
    stops: Stops
    """Tokens and texts that end an answer."""
    engine: type[Engine]
    """That will run the items."""

    @classmethod
    def of(
        cls, folder: Path, name: str, model: Model, settings: Infer, run: Run, date: datetime.date, engine: type[Engine]
    ) -> "Asking":
        """The model that was exported to `folder`; `date` is the day that its chat template is told.

        Raises PipelineError when nothing ends an answer, or `stop` names a token that the model does not have.
        """
        encoder = Encoder.open(folder, name, date)
        named = stops_of(model.stop, encoder.tokenizer, name)
        stops = Stops(encoder.ends.tokens | named.tokens, named.texts)
        if not stops.tokens and not stops.texts:
            encoder.end_of_turn()  # raises, with what to do
        return cls(name, model, settings, run, encoder, reach_of(folder), stops, engine)

    def shows_worked_examples(self) -> bool:
        """Whether a problem comes after solved ones, in place of the chat template."""
        return self.model.problem_format == "worked_examples"


def examples_of(rows: Iterable[AnyPrompt], model: Model) -> Examples:
    """The first examples of each subject, or of each dataset, that the model is shown: in the official order."""
    shots: dict[str, list[ChoiceQuestion]] = defaultdict(list)
    worked: dict[str, list[Problem]] = defaultdict(list)
    for row in rows:
        if isinstance(row, Problem) and len(worked[row.group]) < WORKED_EXAMPLES:
            worked[row.group].append(row)
        elif isinstance(row, ChoiceQuestion) and len(shots[row.group]) < model.shots:
            shots[row.group].append(row)
    return Examples(shots, worked)


def prepare(
    asking: Asking, prompts: Sequence[Prompt], questions: Mapping[Form, Sequence[ChoiceQuestion]], examples: Examples
) -> tuple[list[Prepared], dict[Form, Prepared]]:
    """Parts with the prompts to answer, and one with the questions of each format.

    Raises PipelineError when an item cannot be asked, with all of them and all that is wrong.
    """
    faults = Faults()
    answers = [prepare_answers(asking, name, of, examples, faults) for name, of in answered_together(asking, prompts)]
    asked = {
        form: prepare_questions(asking, form, of, examples, faults) for form, of in questions.items() if len(of) > 0
    }
    faults.require_none()
    return answers, asked


def answered_together(asking: Asking, prompts: Iterable[Prompt]) -> list[tuple[str, list[Prompt]]]:
    """The prompts of each part, by its name: those with one limit together, problems and instructions on their own."""
    by_limit: dict[tuple[str, int], list[Prompt]] = defaultdict(list)
    for prompt in prompts:
        name = "answers" if isinstance(prompt, ChatPrompt) else f"{prompt.kind}s"
        by_limit[name, asking.settings.max_new_tokens.of(prompt.kind)].append(prompt)
    names = [name for name, _ in by_limit]
    return [
        (name if names.count(name) == 1 else f"{name} up to {limit:,} tokens", of)
        for (name, limit), of in by_limit.items()
    ]


def prepare_answers(
    asking: Asking, name: str, prompts: Sequence[Prompt], examples: Examples, faults: Faults
) -> Prepared:
    """One part of prompts, all with the limit and the format of the first; what is wrong goes to `faults`."""
    settings, limit = asking.settings, asking.settings.max_new_tokens.of(prompts[0].kind)
    worked = prompts[0].kind == "problem" and asking.shows_worked_examples()
    strings = (NEXT_QUESTION,) if worked else asking.stops.texts
    stop_text = StopText(strings, asking.encoder.decode) if strings else None
    check_labels(prompts, faults)
    items = check_texts(prompts, faults)
    if worked:
        check_worked(asking, items, examples, faults)
    try:
        ids = [_prompt_ids(asking, item, examples) for item in items]
    except PipelineError as error:  # the chat template's
        faults.add_sentence(str(error))
        items, ids = [], []
    check_rows(ids, items, asking.encoder.tokenizer.decode, asking.reach, faults)
    room, truncated = asking.reach.context - limit, list[str]()
    if settings.truncate == "left" and room > 0:
        truncated = [item.id for tokens, item in zip(ids, items, strict=True) if len(tokens) > room]
        ids = [tokens[-room:] for tokens in ids]
    check_context(ids, items, limit, asking.reach, faults)
    if asking.engine.padded:
        check_window(ids, items, limit, "max_new_tokens", asking.reach, faults)
    lengths = [len(tokens) + limit for tokens in ids]
    check_budget(lengths, items, asking.run.generation_tokens, "generation_tokens", faults)
    sampling = Sampling(settings.temperature, settings.sampling_seed)
    part = Answers(name, ids, asking.stops.tokens, [title(item) for item in items], limit, stop_text, sampling)
    return Prepared(part, items, truncated)


def _prompt_ids(asking: Asking, prompt: Prompt, examples: Examples) -> list[int]:
    if not isinstance(prompt, Problem):
        return asking.encoder.chat(prompt.text)
    if asking.shows_worked_examples():
        return asking.encoder.text(worked_prompt(prompt, examples.worked.get(prompt.benchmark, ())))
    return asking.encoder.chat(reasoning_request(prompt))


def prepare_questions(
    asking: Asking, form: Form, questions: Sequence[ChoiceQuestion], examples: Examples, faults: Faults
) -> Prepared:
    """The questions in one format, `letter` (after the subject's shots) or `continuation`; what is wrong goes to
    `faults`.
    """
    items = check_options(check_texts(questions, faults), faults)
    options = letters if form == "letter" else continuations
    if form == "letter":
        check_shots(asking, items, examples, faults)

    def context(question: ChoiceQuestion) -> str:
        if form == "letter":
            return letter_prompt(question, examples.shots.get(question.group, ()))
        return continuation_prompt(question)

    tokens = encoded([(context(item), options(item)) for item in items], asking.encoder)
    check_scored(tokens, items, faults, form)
    together = [sum(question.full, list(question.context)) for question in tokens]
    check_rows(together, items, asking.encoder.tokenizer.decode, asking.reach, faults)
    truncated: list[str] = []
    if asking.settings.truncate == "left":
        # In a prefix tree a question's options lie one after another, each of which sees its own tokens only.
        cut = [without_beginning(question, asking.reach.context, asking.engine.together) for question in tokens]
        lost = [len(after.context) < len(before.context) for before, after in zip(tokens, cut, strict=True)]
        truncated = [item.id for item, shorter in zip(items, lost, strict=True) if shorter]
        tokens = cut
    asked = f" in the format `{form}`"
    check_context([max(question.full, key=len) for question in tokens], items, 0, asking.reach, faults, asked)
    if asking.engine.padded:
        # A long question may share its batch with another one's long option.
        tail = max((len(full) - question.shared() for question in tokens for full in question.full), default=0)
        contexts = [question.context for question in tokens]
        check_window(contexts, items, tail, "`shots`", asking.reach, faults, asked)
        # Without padding, a longer question runs in several passes.
        lengths = [question.shared() for question in tokens]
        check_budget(lengths, items, asking.run.scoring_tokens, "scoring_tokens", faults, asked)
    return Prepared(Questions(form, tokens, [title(item) for item in items]), items, truncated)


def encoded(asked: Sequence[tuple[str, Sequence[str]]], encoder: Encoder) -> list[Question]:
    """Contexts, each with its options, as token ids: every text once, all in one call."""
    texts = list(
        dict.fromkeys(text for context, options in asked for text in (context, *(context + o for o in options)))
    )
    ids = dict(zip(texts, encoder.texts(texts), strict=True))
    return [Question.encoded(context, options, ids.__getitem__) for context, options in asked]


def check_shots(asking: Asking, questions: Iterable[ChoiceQuestion], examples: Examples, faults: Faults) -> None:
    """Every subject has so many sound dev questions as the model is shown."""
    wanted = asking.model.shots
    for subject in dict.fromkeys(question.group for question in questions) if wanted else ():
        there = examples.shots.get(subject, ())
        if len(there) < wanted:
            faults.add(
                f"{wanted} dev questions about every subject for the shots of {asking.name}",
                f"{len(there)} about {subject!r}",
                f"choose a benchmark set with a dev split, or lower catalog.{asking.name}.shots in params.yaml",
            )
        check_options(check_texts(there, faults), faults)


def check_worked(asking: Asking, problems: Iterable[Prompt], examples: Examples, faults: Faults) -> None:
    """Every dataset of problems has enough worked examples, each with its solution."""
    for dataset in dict.fromkeys(problem.benchmark for problem in problems):
        there = check_texts(examples.worked.get(dataset, ()), faults)
        solved = [example for example in there if (example.solution or "").strip()]
        if len(solved) < WORKED_EXAMPLES:
            faults.add(
                f"{WORKED_EXAMPLES} worked examples with their solutions for the problems of {asking.name}",
                f"{len(solved)} of the dataset {dataset!r}",
                f"choose a dataset that has them, or set catalog.{asking.name}.problem_format to chat in params.yaml",
            )
