"""Generation with past key values, in batches of similar length."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from stages.lib.inference.batches import Int64, common_prefix, plan, right_padded
from stages.lib.inference.session import Float, ModelSession, Past, require_finite

# Finished rows leave a batch once they are so large a share of it: leaving copies the past of the others.
LEAVING_SHARE = 0.2


class Generated(NamedTuple):
    """New tokens, the end-of-sequence token left out, and why they end."""

    tokens: list[int]
    finish_reason: Literal["stop", "length"]


class Chooser(NamedTuple):
    """Which token comes next: the most likely, or at a `temperature` above 0 one drawn by its probability.

    A draw depends on the seed, the prompt and the number of tokens written, and on no other row.
    """

    folder: Path
    temperature: float = 0.0
    seed: int = 0

    def __call__(self, logits: Float, prompts: Sequence[Sequence[int]], steps: Sequence[int]) -> Int64:
        """Tokens [rows] from logits [rows, vocabulary]. Raises PipelineError when a chosen logit is not finite."""
        scores = logits
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


def generate(
    session: ModelSession,
    prompts: Sequence[Sequence[int]],
    stop_tokens: frozenset[int],
    limits: Limits,
    choose: Chooser | None = None,
    advance: Callable[[int], None] = lambda tokens: None,
) -> list[Generated]:
    """Continue every prompt until a stop token or `max_new_tokens`; by the most likely tokens without `choose`.

    The tokens that all prompts begin with (a chat template's head) run once. The result does not depend on
    the batches: rows are padded on the right, and padding is masked. `advance` is told of new tokens.
    Raises PipelineError when a logit is not finite.
    """
    chooser = choose or Chooser(session.folder)
    limits = limits._replace(tokens_per_batch=session.token_budget(limits.tokens_per_batch))
    shared = min(common_prefix(prompts), min(len(prompt) for prompt in prompts) - 1)
    head = _prefill(session, list(prompts[0][:shared])) if shared else session.empty_past(1)
    lengths = [len(prompt) for prompt in prompts]
    results: list[Generated | None] = [None] * len(prompts)
    for batch in plan(lengths, limits.max_new_tokens, limits.tokens_per_batch, limits.rows_per_batch):
        past = session.rows_of(head, np.zeros(len(batch), np.int64))
        suffixes = [prompts[item][shared:] for item in batch]
        prefix = list(prompts[0][:shared])
        done = _generate_batch(session, suffixes, prefix, past, stop_tokens, limits.max_new_tokens, chooser, advance)
        for item, generated in zip(batch, done, strict=True):
            results[item] = generated
    return [generated for generated in results if generated is not None]


def _prefill(session: ModelSession, tokens: list[int]) -> Past:
    row = np.array([tokens], np.int64)
    positions = np.arange(len(tokens), dtype=np.int64)[None]
    last = np.array([[len(tokens) - 1]], np.int64)
    return session.run(row, np.ones_like(row), positions, last, session.empty_past(1)).past


def _generate_batch(
    session: ModelSession,
    suffixes: list[Sequence[int]],
    prefix: list[int],
    past: Past,
    stop_tokens: frozenset[int],
    max_new_tokens: int,
    choose: Chooser,
    advance: Callable[[int], None],
) -> list[Generated]:
    tokens, suffix_mask = right_padded(suffixes)
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
                else:
                    new[alive[row]].append(int(token))
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
    return [
        Generated(written, "stop" if ended else "length") for written, ended in zip(new, finished.tolist(), strict=True)
    ]
