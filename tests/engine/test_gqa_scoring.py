"""Questions as prefix trees: each option's tokens but its last, what they share once, so many questions a tree."""

from safety_tax.engine.gqa.scoring import PACK_TOKENS, question_packs
from safety_tax.engine.protocol import Question


def question(context: list[int], *options: list[int]) -> Question:
    return Question(context, [[*context, *option] for option in options])


def test_a_question_by_hand() -> None:
    (pack,) = question_packs([question([1, 2, 3], [4], [5, 6], [5, 7, 8])])
    # Nobody asks what follows 4, 6 or 8.
    assert pack.tokens == [1, 2, 3, 5, 7]
    assert pack.paths == [[[0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4]]]
    assert (pack.prefix, pack.parents) == ([], [-1, 0, 1, 2, 3])


def test_questions_with_the_same_shots_run_them_once() -> None:
    shots = list(range(10, 20))
    found = list(question_packs([question([*shots, 1, 2], [3], [4]), question([*shots, 5, 6], [3], [4])]))
    assert len(found) == 1 and len(found[0].tokens) == 10 + 2 + 2


def test_so_many_questions_are_one_tree_and_a_longer_one_is_alone() -> None:
    half = PACK_TOKENS // 2
    short = [question([100 + n] * half, [1], [2]) for n in range(3)]
    assert [pack.units for pack in question_packs(short)] == [[0, 1], [2]]
    long = question([7] * (PACK_TOKENS + 1), [1], [2])
    assert [pack.units for pack in question_packs([long, *short])] == [[0], [1, 2], [3]]


def test_a_later_tree_begins_where_the_one_before_went_another_way() -> None:
    shots = list(range(1000, 1000 + PACK_TOKENS))
    first, second = question_packs([question([*shots, 1, 2, 3], [8]), question([*shots, *[4] * PACK_TOKENS], [8])])
    assert first.prefix == [] and second.prefix == shots
    assert second.tokens == [4] * PACK_TOKENS
