"""Which prompts the plain graph answers together."""

from safety_tax.engine.plain.generation import answer_plan
from safety_tax.engine.protocol import Answers, Budget


def test_a_batch_has_room_for_the_answers_and_the_longest_come_first() -> None:
    prompts = [[1] * length for length in (10, 9, 10, 10)]
    asked = Answers("answers", prompts, frozenset([2]), list("abcd"), 10)
    # 20 tokens a row with its answer: two rows in 40, and one more row is 60.
    assert answer_plan(asked, Budget(59, 64, 4096, 4096)) == [[0, 2], [3, 1]]
    assert answer_plan(asked, Budget(80, 64, 4096, 4096)) == [[0, 2, 3, 1]]
    assert answer_plan(asked, Budget(80, 3, 4096, 4096)) == [[0, 2, 3], [1]]
    assert answer_plan(asked, Budget(1, 64, 4096, 4096)) == [[0], [2], [3], [1]]
