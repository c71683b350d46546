"""Log-probabilities of the options of a multiple-choice question, the question itself run once."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stages.lib.inference.batches import Int64, common_prefix, plan, right_padded
from stages.lib.inference.session import Float, ModelSession, Past, require_finite


class Question(NamedTuple):
    """Token ids of the context, and of context and option together, one list an option."""

    context: list[int]
    full: list[list[int]]

    def shared(self) -> int:
        """How many leading tokens the context and all options share: they run once."""
        return common_prefix([self.context, *self.full])


class Scores(NamedTuple):
    """Log-probability of each option's tokens (natural log, summed), and the mass on their first tokens."""

    logprobs: list[float]
    first_token_mass: float


class _Tail(NamedTuple):
    """An option from the first token that it does not share with its context and the other options."""

    question: int
    option: int
    tokens: list[int]
    unscored: int
    """Leading tokens that still belong to the context: tokenisers may merge across its end."""


def tokenized(context: str, options: Sequence[str], encode: Callable[[str], list[int]]) -> Question:
    """Encode context and option together, as lm-evaluation-harness does, and mark where the context ends."""
    return Question(encode(context), [encode(context + option) for option in options])


def score(
    session: ModelSession,
    questions: Sequence[Question],
    tokens_per_batch: int,
    rows_per_batch: int,
    advance: Callable[[int], None] = lambda questions: None,
    started: Callable[[int], None] = lambda question: None,
    finished: Callable[[int, Scores], None] = lambda question, scores: None,
) -> list[Scores]:
    """Score every question's options. `advance` is told of finished questions, `started` of the questions (places in
    `questions`) of each batch before it runs, `finished` of each one's scores.

    Raises PipelineError when a logit is not finite.
    """
    sizes = [question.shared() for question in questions]
    results: list[Scores | None] = [None] * len(questions)
    for batch in plan(sizes, 0, tokens_per_batch, rows_per_batch):
        for item in batch:
            started(item)
        scored = _score_batch(session, [questions[item] for item in batch], tokens_per_batch, rows_per_batch)
        for item, scores in zip(batch, scored, strict=True):
            results[item] = scores
            finished(item, scores)
        advance(len(batch))
    return [scores for scores in results if scores is not None]


def _score_batch(
    session: ModelSession, questions: list[Question], tokens_per_batch: int, rows_per_batch: int
) -> list[Scores]:
    shared = [question.shared() for question in questions]
    tokens, mask = right_padded([question.context[:length] for question, length in zip(questions, shared, strict=True)])
    positions = np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int64), tokens.shape)
    last = mask.sum(axis=1, keepdims=True) - 1
    output = session.run(tokens, mask, positions, last, session.empty_past(len(questions)))
    first = output.logits[:, 0]

    tails = [
        _Tail(place, option, full[length:], max(0, len(question.context) - length))
        for place, (question, length) in enumerate(zip(questions, shared, strict=True))
        for option, full in enumerate(question.full)
    ]
    totals = [[0.0] * len(question.full) for question in questions]
    owners = np.array([tail.question for tail in tails], np.int64)
    # The question's last logit scores the first token of every tail.
    starts = _logprobs(first[owners], np.array([tail.tokens[0] for tail in tails], np.int64), session)
    for tail, logprob in zip(tails, starts.tolist(), strict=True):
        totals[tail.question][tail.option] += 0.0 if tail.unscored else logprob
    longer = [tail for tail in tails if len(tail.tokens) > 1]
    for batch in plan([len(tail.tokens) - 1 for tail in longer], 0, tokens_per_batch, 4 * rows_per_batch):
        of_batch = [longer[place] for place in batch]
        for tail, logprob in zip(of_batch, _run_tails(session, of_batch, shared, mask, output.past), strict=True):
            totals[tail.question][tail.option] += logprob
    return [
        Scores(total, mass(first[place], sorted({full[shared[place]] for full in questions[place].full})))
        for place, total in enumerate(totals)
    ]


def _run_tails(session: ModelSession, tails: list[_Tail], shared: list[int], mask: Int64, past: Past) -> list[float]:
    """Log-probability of each tail's tokens after its first."""
    # A tail's last token is not fed: nobody asks what follows it.
    tokens, tail_mask = right_padded([tail.tokens[:-1] for tail in tails])
    owners = np.array([tail.question for tail in tails], np.int64)
    places = np.arange(tokens.shape[1], dtype=np.int64)
    positions = np.array(shared, np.int64)[owners][:, None] + places
    whole_mask = np.concatenate([mask[owners], tail_mask], axis=1)
    wanted = np.broadcast_to(places, tokens.shape)
    logits = session.run(tokens, whole_mask, positions, wanted, session.rows_of(past, owners)).logits
    sums = []
    for row, tail in enumerate(tails):
        targets = np.array(tail.tokens[1:], np.int64)
        logprobs = _logprobs(logits[row, : len(targets)], targets, session)
        sums.append(float(logprobs[max(0, tail.unscored - 1) :].sum()))
    return sums


def _logprobs(logits: Float, targets: Int64, session: ModelSession) -> NDArray[np.float64]:
    """log softmax of `logits` [n, vocabulary] at `targets` [n]."""
    wide = logits.astype(np.float32, copy=False)
    highest = wide.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(wide, targets[:, None], axis=-1)[:, 0]
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
