"""The blocks that the judge's patterns are made of match what they say, and no more."""

import re

import pytest

from safety_tax.judging.patterns import UNQUOTED_WORD, WORD, each, either, words


def test_alternatives_hold_together_beside_what_follows() -> None:
    pattern = re.compile(either("cat", "dog|fox") + "s")
    assert [text for text in ("cats", "dogs", "foxs", "cat", "dog") if pattern.fullmatch(text)] == [
        "cats",
        "dogs",
        "foxs",
    ]
    assert re.compile(either("cat", "dog")).groups == 0  # nothing is captured


def test_words_are_alternatives_written_with_spaces() -> None:
    pattern = re.compile(words("  can will\n shall "))
    assert [text for text in ("can", "will", "shall", "", " ", "can will") if pattern.fullmatch(text)] == [
        "can",
        "will",
        "shall",
    ]


@pytest.mark.parametrize(
    ("beginnings", "expected"),
    [
        ("i ", "i go"),
        ("i |you ", "i go|you go"),
        ("we (?:both|all) |they ", "we (?:both|all) go|they go"),
        ("(?:a|b) |(?:c|d) ", "(?:a|b) go|(?:c|d) go"),
    ],
)
def test_each_beginning_gets_the_rest_and_a_group_stays_whole(beginnings: str, expected: str) -> None:
    assert each(beginnings, "go") == expected


def test_a_word_after_a_quotation_mark_is_somebody_elses() -> None:
    assert re.search(WORD + "no", 'she said "no"')
    for quoted in ('she said "no"', "she said 'no'"):
        assert not re.search(UNQUOTED_WORD + "no", quoted)
    assert re.search(UNQUOTED_WORD + "no", "she said no")
    assert re.search(UNQUOTED_WORD + "no", "no")
    assert not re.search(UNQUOTED_WORD + "no", "piano")
