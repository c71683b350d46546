"""Generation with past key values, in batches of similar length."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

import numpy as np

from safety_tax.engine.batches import Int64, common_prefix, plan, right_padded, slices
from safety_tax.engine.choosing import Chooser
from safety_tax.engine.plain.session import Past, PlainSession, rows_to_run
from safety_tax.engine.protocol import Answers, Budget, Generated, Hooks

# Finished rows leave a batch once they are so large a share of it: leaving copies the past of the others.
LEAVING_SHARE = 0.2


def answer_plan(requests: Answers, budget: Budget) -> list[list[int]]:
    """Which prompts are answered together."""
    lengths = [len(prompt) for prompt in requests.items]
    return plan(lengths, requests.max_new_tokens, budget.generation_tokens, budget.rows)


def generate(
    session: PlainSession, requests: Answers, wanted: Collection[int], budget: Budget, hooks: Hooks
) -> Iterator[tuple[int, Generated]]:
    """See `Engine.generate`. The tokens that all prompts begin with (a chat template's head) run once.

    The result does not depend on the batches: rows are padded on the right, and padding is masked. Some of the items
    run in the batches of all of them, and a batch's parts with the same padding: on the CPU neither changes a bit.
    """
    prompts = requests.items
    budget = replace(budget, generation_tokens=session.token_budget(budget.generation_tokens))
    shared = min(common_prefix(prompts), min(len(prompt) for prompt in prompts) - 1)
    head, prefix = session.prefill(prompts[0][:shared]), list(prompts[0][:shared])
    for batch in answer_plan(requests, budget):
        width = max(len(prompts[item]) for item in batch) - shared
        for rows in slices([batch[place] for place in rows_to_run(session, batch, wanted)], budget.parts):
            for item in rows:
                hooks.started(item)
            past = session.rows_of(head, np.zeros(len(rows), np.int64))
            suffixes = [prompts[item][shared:] for item in rows]
            for row, answer in _generate_batch(session, requests, suffixes, width, prefix, past, hooks):
                yield rows[row], answer


def _generate_batch(
    session: PlainSession,
    requests: Answers,
    suffixes: Sequence[Sequence[int]],
    width: int,
    prefix: list[int],
    past: Past,
    hooks: Hooks,
) -> Iterator[tuple[int, Generated]]:
    """Continue the rows of one batch; each row with its answer as soon as it ends."""
    choose = Chooser(session.folder, *requests.sampling)
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
    while True:
        output = session.run(tokens, mask, positions, last, past)
        steps = [len(new[place]) for place in alive]
        chosen = choose(output.logits[:, -1], [prompts[place] for place in alive], steps)
        past = output.past
        hooks.advance(int((~finished[alive]).sum()))
        for place, token in zip(alive.tolist(), chosen.tolist(), strict=True):
            answer = None if finished[place] else requests.ended(new[place], token)
            if answer:
                finished[place] = True
                yield place, answer
        staying = ~finished[alive]
        if not staying.any():
            return
        tokens, positions, last = chosen[:, None], next_position, np.zeros((len(alive), 1), np.int64)
        mask = np.concatenate([mask, np.ones((len(alive), 1), np.int64)], axis=1)
        next_position = next_position + 1
        if (~staying).mean() >= LEAVING_SHARE:
            rows_left: Int64 = np.flatnonzero(staying)
            past = session.rows_of(past, rows_left)
            alive, tokens, positions, last = alive[rows_left], tokens[rows_left], positions[rows_left], last[rows_left]
            mask, next_position = mask[rows_left], next_position[rows_left]
