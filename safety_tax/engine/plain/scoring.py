"""Log-probabilities of the options of a multiple-choice question, the question itself run once."""

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from safety_tax.engine.batches import Int64, common_prefix, plan, right_padded, shared_length, slices
from safety_tax.engine.plain.session import Past, PlainSession, rows_to_run
from safety_tax.engine.protocol import Budget, Hooks, Question, Scores
from safety_tax.engine.session import Float, require_finite

# A beginning that questions share runs once from so many tokens on; a pass of fewer costs what it saves.
HEAD_TOKENS = 64


class _Head(NamedTuple):
    """The tokens that a group's questions begin with: how many, and their past key values, of one row."""

    tokens: int
    past: Past


class _Tail(NamedTuple):
    """An option from the first token that it does not share with its context and the other options."""

    question: int
    option: int
    tokens: list[int]
    unscored: int
    """Leading tokens that still belong to the context: tokenisers may merge across its end."""


class _Group(NamedTuple):
    """Questions that begin alike, with the same shots for instance; their first `head` tokens run once."""

    head: int
    questions: list[int]


def _groups(questions: Sequence[Question]) -> list[_Group]:
    """Every question in one group; those that share too little to be worth a pass are in one without a head.

    A group is what shares `HEAD_TOKENS` with its first question: if all questions do, there is one group, and only what
    all share runs once.
    """
    alike: list[list[int]] = []
    # Sorted, those that begin alike are neighbours.
    for item in sorted(range(len(questions)), key=lambda item: questions[item].context):
        if not alike or shared_length(questions[alike[-1][0]].context, questions[item].context) < HEAD_TOKENS:
            alike.append([])
        alike[-1].append(item)
    found = [_Group(0, sorted(item for members in alike if len(members) == 1 for item in members))]
    for members in alike:
        if len(members) > 1:
            # A token of each question is left to run after the head.
            longest = max(0, min(questions[item].shared() for item in members) - 1)
            head = min(common_prefix([questions[item].context for item in members]), longest)
            found.append(_Group(head, sorted(members)))
    return [group for group in found if group.questions]


def _batches(group: _Group, questions: Sequence[Question], budget: Budget) -> list[list[int]]:
    lengths = [questions[item].shared() - group.head for item in group.questions]
    # Each row has a copy of the head's past.
    batches = plan(lengths, group.head, budget.scoring_tokens, budget.rows)
    return [[group.questions[place] for place in batch] for batch in batches]


def question_plan(questions: Sequence[Question], budget: Budget) -> list[list[int]]:
    """Which questions are scored together."""
    return [batch for group in _groups(questions) for batch in _batches(group, questions, budget)]


def score(
    session: PlainSession, questions: Sequence[Question], wanted: Collection[int], budget: Budget, hooks: Hooks
) -> Iterator[tuple[int, Scores]]:
    """See `Engine.score`. What many questions begin with, their shots, runs once.

    Some of the questions run in the batches of all of them, and a batch's parts in the same padding: neither changes a
    bit of a score on the CPU.
    """
    for group in _groups(questions):
        if set(wanted).isdisjoint(group.questions):
            continue
        head: _Head | None = None
        for batch in _batches(group, questions, budget):
            of_batch = [questions[item] for item in batch]
            runs = _plan_tails(of_batch, budget)
            for places in slices(rows_to_run(session, batch, wanted), budget.parts):
                for place in places:
                    hooks.started(batch[place])
                if head is None:  # now, so that a failure names these questions
                    head = _Head(group.head, session.prefill(questions[batch[0]].context[: group.head]))
                scored = _score_rows(session, of_batch, head, places, runs, budget.parts)
                yield from zip([batch[place] for place in places], scored, strict=True)
                hooks.advance(len(places))


def _tails(place: int, question: Question) -> list[_Tail]:
    shared = question.shared()
    unscored = max(0, len(question.context) - shared)
    return [_Tail(place, option, full[shared:], unscored) for option, full in enumerate(question.full)]


def _plan_tails(questions: list[Question], budget: Budget) -> list[list[_Tail]]:
    """The tails of a batch's questions that are longer than a token, those of one pass together."""
    longer = [tail for place, of in enumerate(questions) for tail in _tails(place, of) if len(tail.tokens) > 1]
    plans = plan([len(tail.tokens) - 1 for tail in longer], 0, budget.scoring_tokens, 4 * budget.rows)
    return [[longer[number] for number in numbers] for numbers in plans]


def _score_rows(
    session: PlainSession,
    questions: list[Question],
    head: _Head,
    places: Sequence[int],
    runs: list[list[_Tail]],
    parts: int,
) -> list[Scores]:
    """Scores of a batch's `questions` at `places`, all padded as if the whole batch ran at once."""
    shared = [question.shared() for question in questions]
    contexts = [questions[place].context[head.tokens : shared[place]] for place in places]
    tokens, own_mask = right_padded(contexts, width=max(shared) - head.tokens)
    positions = head.tokens + np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int64), tokens.shape)
    last = own_mask.sum(axis=1, keepdims=True) - 1
    mask = np.concatenate([np.ones((len(places), head.tokens), np.int64), own_mask], axis=1)
    output = session.run(tokens, mask, positions, last, session.rows_of(head.past, np.zeros(len(places), np.int64)))
    first = output.logits[:, 0]

    row_of = {place: row for row, place in enumerate(places)}
    tails = [tail for place in places for tail in _tails(place, questions[place])]
    totals = {place: [0.0] * len(questions[place].full) for place in places}
    owners = np.array([row_of[tail.question] for tail in tails], np.int64)
    # The question's last logit scores the first token of every tail.
    starts = _logprobs(first[owners], np.array([tail.tokens[0] for tail in tails], np.int64), session)
    for tail, logprob in zip(tails, starts.tolist(), strict=True):
        totals[tail.question][tail.option] += 0.0 if tail.unscored else logprob
    for run in runs:
        width = max(len(tail.tokens) for tail in run) - 1
        needed = [place for place, tail in enumerate(run) if tail.question in row_of]
        for some in slices(needed, parts):
            of_rows = [run[place] for place in some]
            rows = np.array([row_of[tail.question] for tail in of_rows], np.int64)
            lengths = np.array([shared[tail.question] for tail in of_rows], np.int64)
            logprobs = _run_tails(session, of_rows, width, lengths, mask[rows], session.rows_of(output.past, rows))
            for tail, logprob in zip(of_rows, logprobs, strict=True):
                totals[tail.question][tail.option] += logprob
    return [
        Scores(totals[place], mass(first[row], sorted({full[shared[place]] for full in questions[place].full})))
        for row, place in enumerate(places)
    ]


def _run_tails(
    session: PlainSession, tails: list[_Tail], width: int, shared: Int64, mask: Int64, past: Past
) -> list[float]:
    """Log-probability of each tail's tokens after its first; `shared`, `mask` and `past` have its question's row."""
    # A tail's last token is not fed: nobody asks what follows it.
    tokens, tail_mask = right_padded([tail.tokens[:-1] for tail in tails], width=width)
    places = np.arange(tokens.shape[1], dtype=np.int64)
    positions = shared[:, None] + places
    whole_mask = np.concatenate([mask, tail_mask], axis=1)
    wanted = np.broadcast_to(places, tokens.shape)
    logits = session.run(tokens, whole_mask, positions, wanted, past).logits
    sums = []
    for row, tail in enumerate(tails):
        targets = np.array(tail.tokens[1:], np.int64)
        logprobs = _logprobs(logits[row, : len(targets)], targets, session)
        sums.append(float(logprobs[max(0, tail.unscored - 1) :].sum()))
    return sums


def _logprobs(logits: Float, targets: Int64, session: PlainSession) -> NDArray[np.float64]:
    """log softmax of `logits` [n, vocabulary] at `targets` [n]."""
    wide = logits.astype(np.float32, copy=False)
    highest = wide.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(wide, targets[:, None], axis=-1)[:, 0]
    with np.errstate(invalid="ignore"):  # infinity less infinity, refused below
        total = np.exp(wide - highest).sum(axis=-1)
        difference = (chosen - highest[:, 0]).astype(np.float64)
    logprobs: NDArray[np.float64] = difference - np.log(total.astype(np.float64))
    require_finite(logprobs, session.folder)
    return logprobs


def mass(logits: Float, tokens: list[int]) -> float:
    """Probability, in [0, 1], of the given tokens together."""
    wide = logits.astype(np.float64)
    weights = np.exp(wide - wide.max())
    return float(weights[tokens].sum() / weights.sum())
