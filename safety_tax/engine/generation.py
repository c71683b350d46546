"""Generation with past key values, in batches of similar length."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from safety_tax.engine.batches import Int64, common_prefix, plan, right_padded, slices
from safety_tax.engine.session import Float, ModelSession, Past, require_finite, rows_to_run

# Finished rows leave a batch once they are so large a share of it: leaving copies the past of the others.
LEAVING_SHARE = 0.2


class Generated(NamedTuple):
    """New tokens, the end-of-sequence token left out but a string that ended them left in, and why they end."""

    tokens: list[int]
    finish_reason: Literal["stop", "length"]


@dataclass(frozen=True)
class StopText:
    """Strings that end an answer as soon as they stand in it."""

    strings: tuple[str, ...]
    decode: Callable[[list[int]], str]
    """Tokens to text."""

    def ends(self, tokens: list[int]) -> bool:
        """Whether one of the strings stands in the last tokens; asked after each of them, so the last completes it."""
        # A token holds a byte at least, unless it is a special one that decodes to nothing; a few more for these, and
        # since decoding may drop a space at the beginning.
        most = max(len(string.encode()) for string in self.strings) + 4
        text = self.decode(tokens[-most:])
        return any(string in text for string in self.strings)

    def before(self, text: str) -> str:
        """The text up to the first of the strings."""
        return text[: min((text.index(string) for string in self.strings if string in text), default=len(text))]


class Sampling(NamedTuple):
    """How the next token is chosen: the most likely at a temperature of 0, else drawn by its probability."""

    temperature: float
    seed: int


GREEDY = Sampling(0.0, 0)


class Chooser(NamedTuple):
    """Which token comes next: the most likely, or at a `temperature` above 0 one drawn by its probability.

    A draw depends on the seed, the prompt and the number of tokens written, and on no other row.
    """

    folder: Path
    temperature: float = 0.0
    seed: int = 0

    def __call__(self, logits: Float, prompts: Sequence[Sequence[int]], steps: Sequence[int]) -> Int64:
        """Tokens [rows] from logits [rows, vocabulary]. Raises PipelineError when a chosen logit is not finite."""
        scores = logits.astype(np.float32, copy=False)  # NumPy's argmax over float16 takes more than twice as long
        if self.temperature > 0:
            # Gumbel's trick: the largest of log-probability plus Gumbel noise is a draw from the distribution.
            noise = [
                np.random.default_rng([self.seed, step, *prompt]).gumbel(size=logits.shape[-1])
                for prompt, step in zip(prompts, steps, strict=True)
            ]
            scores = logits.astype(np.float64) / self.temperature + np.stack(noise)
        chosen: Int64 = scores.argmax(axis=-1)
        # argmax returns the place of a NaN if there is one, so the chosen logits tell.
        require_finite(logits[np.arange(len(chosen)), chosen], self.folder)
        return chosen


class Limits(NamedTuple):
    """What bounds a run: new tokens a row, and the size of a batch."""

    max_new_tokens: int
    tokens_per_batch: int
    rows_per_batch: int


def answer_plan(prompts: Sequence[Sequence[int]], limits: Limits) -> list[list[int]]:
    """Which prompts are answered together: it depends on all of them, and on nothing else."""
    lengths = [len(prompt) for prompt in prompts]
    return plan(lengths, limits.max_new_tokens, limits.tokens_per_batch, limits.rows_per_batch)


def generate(
    session: ModelSession,
    prompts: Sequence[Sequence[int]],
    stop_tokens: frozenset[int],
    limits: Limits,
    choose: Chooser | None = None,
    advance: Callable[[int], None] = lambda tokens: None,
    started: Callable[[int], None] = lambda item: None,
    finished: Callable[[int, Generated], None] = lambda item, generated: None,
    wanted: Collection[int] | None = None,
    parts: int = 1,
    stop_text: StopText | None = None,
) -> list[Generated]:
    """Continue every prompt until a stop token, a string of `stop_text` or `max_new_tokens`.

    Without `choose` by the most likely tokens.

    The tokens that all prompts begin with (a chat template's head) run once. The result does not depend on
    the batches: rows are padded on the right, and padding is masked. `advance` is told of new tokens, `started` of the
    items (places in `prompts`) of each batch before it runs, `finished` of each item's answer as soon as it ends.

    `wanted` answers some items only, in the batches of all of them, and `parts` runs a batch in so many parts with the
    same padding: for what a stopped run left, for one of many devices, and where memory is short. Neither changes a bit
    of an answer on the CPU. Returns the answers to the wanted prompts, in their order.
    Raises PipelineError when a logit is not finite.
    """
    chooser = choose or Chooser(session.folder)
    limits = limits._replace(tokens_per_batch=session.token_budget(limits.tokens_per_batch))
    shared = min(common_prefix(prompts), min(len(prompt) for prompt in prompts) - 1)
    head = session.prefill(prompts[0][:shared])
    prefix = list(prompts[0][:shared])
    needed = set(range(len(prompts)) if wanted is None else wanted)
    results: dict[int, Generated] = {}
    for batch in answer_plan(prompts, limits):
        width = max(len(prompts[item]) for item in batch) - shared
        for rows in slices([batch[place] for place in rows_to_run(session, batch, needed)], parts):
            for item in rows:
                started(item)
            past = session.rows_of(head, np.zeros(len(rows), np.int64))
            suffixes = [prompts[item][shared:] for item in rows]

            def note(row: int, generated: Generated, rows: Sequence[int] = rows) -> None:
                results[rows[row]] = generated
                finished(rows[row], generated)

            _generate_batch(
                session,
                suffixes,
                width,
                prefix,
                past,
                stop_tokens,
                stop_text,
                limits.max_new_tokens,
                chooser,
                advance,
                note,
            )
    return [results[item] for item in sorted(needed)]


def _generate_batch(
    session: ModelSession,
    suffixes: list[Sequence[int]],
    width: int,
    prefix: list[int],
    past: Past,
    stop_tokens: frozenset[int],
    stop_text: StopText | None,
    max_new_tokens: int,
    choose: Chooser,
    advance: Callable[[int], None],
    note: Callable[[int, Generated], None],
) -> None:
    """Continue the rows of one batch; `note` is told of each row's answer as soon as it ends."""
    tokens, suffix_mask = right_padded(suffixes, width=width)
    rows, shared = len(suffixes), len(prefix)
    prompts = [[*prefix, *suffix] for suffix in suffixes]
    mask = np.concatenate([np.ones((rows, shared), np.int64), suffix_mask], axis=1)
    # Padding gets the positions that follow; it is masked, so they do not matter.
    positions = shared + np.broadcast_to(np.arange(tokens.shape[1], dtype=np.int64), tokens.shape)
    last = suffix_mask.sum(axis=1, keepdims=True) - 1
    new: list[list[int]] = [[] for _ in suffixes]
    finished = np.zeros(rows, bool)
    alive = np.arange(rows)  # which suffix a row of the batch belongs to
    next_position = shared + suffix_mask.sum(axis=1, keepdims=True)
    for _ in range(max_new_tokens):
        output = session.run(tokens, mask, positions, last, past)
        steps = [len(new[place]) for place in alive]
        chosen = choose(output.logits[:, -1], [prompts[place] for place in alive], steps)
        past = output.past
        advance(int((~finished[alive]).sum()))
        for row, token in enumerate(chosen):
            if not finished[alive[row]]:
                if int(token) in stop_tokens:
                    finished[alive[row]] = True
                    note(int(alive[row]), Generated(new[alive[row]], "stop"))
                else:
                    new[alive[row]].append(int(token))
                    if stop_text and stop_text.ends(new[alive[row]]):
                        finished[alive[row]] = True
                        note(int(alive[row]), Generated(new[alive[row]], "stop"))
                    elif len(new[alive[row]]) == max_new_tokens:
                        note(int(alive[row]), Generated(new[alive[row]], "length"))
        staying = ~finished[alive]
        if not staying.any():
            break
        tokens, positions, last = chosen[:, None], next_position, np.zeros((len(alive), 1), np.int64)
        mask = np.concatenate([mask, np.ones((len(alive), 1), np.int64)], axis=1)
        next_position = next_position + 1
        if (~staying).mean() >= LEAVING_SHARE:
            rows_left: Int64 = np.flatnonzero(staying)
            past = session.rows_of(past, rows_left)
            alive, tokens, positions, last = alive[rows_left], tokens[rows_left], positions[rows_left], last[rows_left]
            mask, next_position = mask[rows_left], next_position[rows_left]
