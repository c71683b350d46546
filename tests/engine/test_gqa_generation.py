"""Which prompts are answered together as prefix trees, worked out by hand: groups of like length, and their packs."""

import pytest

from safety_tax.engine.gqa.generation import answer_plan, longest, of_similar_length
from safety_tax.engine.protocol import Answers, Budget


def requests(*prompts: list[int], new: int = 10) -> Answers:
    return Answers("answers", list(prompts), frozenset([2]), [str(n) for n in range(len(prompts))], new)


def of_lengths(*lengths: int, new: int = 10) -> Answers:
    """Prompts that share no token."""
    return requests(*([100 + place] * length for place, length in enumerate(lengths)), new=new)


def budget(tokens: int = 10**6, rows: int = 64, per_pass: int = 10**6) -> Budget:
    return Budget(tokens, rows, per_pass, 4096)


def test_a_row_is_as_long_as_the_longest_prompt_with_its_answer() -> None:
    assert longest(of_lengths(7, 30, 12), [0, 2]) == 12 + 10
    assert longest(of_lengths(7, 30, 12, new=5), [0, 1, 2]) == 35


@pytest.mark.parametrize(
    ("rows", "groups"),
    [
        # 40 is less than half of 110, 20 not less than half of 40.
        (4, [[1, 2], [3, 0]]),
        (8, [[1, 2], [3, 0]]),
        # A group of fewer than a quarter of the rows does not end.
        (9, [[1, 2, 3], [0]]),
        (13, [[1, 2, 3, 0]]),
    ],
)
def test_a_group_ends_where_prompts_would_fill_less_than_half_a_row(rows: int, groups: list[list[int]]) -> None:
    assert of_similar_length(of_lengths(10, 100, 90, 30), budget(rows=rows)) == groups


def test_waves_are_equal_so_that_the_last_is_no_few_rows() -> None:
    # 20 tokens a row: three rows have room for 60, and four prompts are twice two.
    assert answer_plan(of_lengths(10, 10, 10, 10), budget(tokens=60)) == [[0, 1], [2, 3]]
    assert answer_plan(of_lengths(10, 10, 10, 10), budget(rows=3)) == [[0, 1], [2, 3]]
    assert answer_plan(of_lengths(*[10] * 5), budget(tokens=60)) == [[0, 1, 2], [3, 4]]


def test_a_prompt_that_is_too_long_for_the_budget_runs_alone() -> None:
    assert answer_plan(of_lengths(10, 10), budget(tokens=5)) == [[0], [1]]


def test_a_pass_has_room_for_the_tokens_that_prompts_do_not_share() -> None:
    assert answer_plan(of_lengths(10, 10), budget(per_pass=19)) == [[0], [1]]
    assert answer_plan(of_lengths(10, 10), budget(per_pass=20)) == [[0, 1]]
    head = list(range(1, 9))
    assert answer_plan(requests([*head, 20, 21], [*head, 30, 31]), budget(per_pass=12)) == [[0, 1]]


def test_every_prompt_is_in_the_plan_once() -> None:
    asked = of_lengths(*range(3, 90, 3))
    for of in (budget(tokens=200), budget(rows=5), budget(per_pass=90)):
        assert sorted(item for pack in answer_plan(asked, of) for item in pack) == list(range(len(asked.items)))
