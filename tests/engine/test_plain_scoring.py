"""The plain graph's questions: which run together behind which beginning, and the mass on first tokens, by hand."""

import math
from typing import Any

import numpy as np
import pytest

from safety_tax.engine.plain.scoring import HEAD_TOKENS, mass, question_plan
from safety_tax.engine.protocol import Budget, Question

BUDGET = Budget(4096, 64, 4096, 4096)


def question(context: list[int]) -> Question:
    return Question(context, [[*context, 1], [*context, 2]])


def test_questions_behind_the_same_shots_run_together() -> None:
    shots, others = [[place + n for n in range(HEAD_TOKENS)] for place in (1000, 2000)]
    asked = [question([*shots, 5]), question([*others, 5]), question([7, 8]), question([*shots, 6, 6])]
    asked.append(question([*others, 9]))
    # What shares too little comes first, without a head.
    assert question_plan(asked, BUDGET) == [[2], [3, 0], [1, 4]]


def test_a_beginning_that_is_too_short_to_be_worth_a_pass_makes_no_group() -> None:
    shots = list(range(HEAD_TOKENS - 1))
    assert question_plan([question([*shots, 5]), question([*shots, 6])], BUDGET) == [[0, 1]]
    # As one group without a head they need room for all of their tokens: 64 each.
    narrow = Budget(4096, 64, 4096, 100)
    assert question_plan([question([*shots, 5]), question([*shots, 6])], narrow) == [[0], [1]]


@pytest.mark.parametrize(
    ("logits", "tokens", "expected"),
    [
        ([0, 0, 0, 0], [1, 3], 0.5),
        ([math.log(3), 0, 0], [0], 3 / 5),
        ([math.log(3), 0, 0], [0, 1, 2], 1),
        ([1000, 1000, 0], [1], 0.5),  # e¹⁰⁰⁰ is no number
        ([-1000, -1000, -2000], [0], 0.5),
        ([0, 0], [], 0),
    ],
)
def test_mass_is_the_softmaxs_share(logits: list[float], tokens: list[int], expected: float) -> None:
    assert mass(np.array(logits, np.float32), tokens) == pytest.approx(expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_vocabulary_in_half_precision_is_summed_in_double(dtype: Any) -> None:
    logits = np.zeros(100_000, dtype)  # in float16 a sum of ones ends at 2,048
    assert mass(logits, [0, 1]) == pytest.approx(2e-5, rel=1e-12)
