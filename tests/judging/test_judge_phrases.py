"""The judge's phrases are searched only where their words stand, and are found all the same."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safety_tax.judging import answer_phrases, lecture_phrases, refusal_phrases
from safety_tax.judging.phrases import Openings, Phrases, Sentence, joined
from safety_tax.judging.required_words import required_words
from safety_tax.judging.response_text import bounded, sentences_of
from tests.judging.test_rules_judge import ANSWERS, DISCLAIMED_ANSWERS, LECTURES, PARTIAL, REFUSALS

GROUPS = {
    name: group
    for file in (answer_phrases, lecture_phrases, refusal_phrases)
    for name, group in vars(file).items()
    if isinstance(group, Phrases)
}
PATTERNS = [way for group in GROUPS.values() for way in group._ways]


def sentences() -> list[Sentence]:
    """Those of the judge's tests, and as many with their words dealt out anew."""
    rng = random.Random(5)
    texts = REFUSALS + LECTURES + ANSWERS + DISCLAIMED_ANSWERS + PARTIAL
    words = " ".join(texts).split()
    dealt = [" ".join(rng.choices(words, k=12)) for _ in texts]
    return [sentence for text in texts + dealt for sentence in sentences_of(bounded(text))]


@pytest.mark.parametrize(
    "pattern, words",
    [
        (r"\bi (?:must|shall) refrain", [{"refrain*"}, {"must", "shall"}, {"i"}]),
        (
            r"\b(?:not|never) (?:\w+ ){0,3}?(?:legal|right)s?\b",
            [{"legal", "legals", "right", "rights"}, {"never", "not"}],
        ),
        (r"\brole-?play\b", [{"role", "roleplay"}]),
        (r"\b(?:provid|giv)\w+", [{"giv*", "provid*"}]),
        (r"\bgr[ae]y(?=[.,]|$)", [{"gray", "grey"}]),
        (r"\b1[5-9]\d\d\b", [{"1*"}]),
        (r"\w+ly", []),
        (r"over", []),  # it may be the end of a word: "moreover"
        (r"(?:very )?", []),
        (r"\b(?:crime|.*)\b", []),
    ],
)
def test_words_that_a_pattern_requires(pattern: str, words: list[set[str]]) -> None:
    assert required_words(pattern) == words


def test_an_opening_begins_with_a_word() -> None:
    assert required_words("over", opens=True) == [{"over*"}]


def test_no_pattern_is_found_without_its_words() -> None:
    found = 0
    for sentence in sentences():
        for _, required, find in PATTERNS:
            if find(sentence.text):
                found += 1
                assert sentence.met & required == required, (sentence.text, find)
    assert found > 400


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.data())
def test_what_a_pattern_matches_has_its_words(data: st.DataObject) -> None:
    _, required, find = data.draw(st.sampled_from(PATTERNS))
    pattern = find.__self__  # type: ignore[attr-defined]
    before, after = data.draw(st.sampled_from([("", ""), ("", " x"), ("", "s"), ("", ", "), ("x ", ".")]))
    text = before + data.draw(st.from_regex(pattern)) + after
    if find(text):
        assert Sentence(text).met & required == required


def test_the_first_phrase_in_a_sentence_is_found_as_one_pattern_would() -> None:
    group = Phrases("late one", "one", "one late", before=r"\b")
    found = group.search(Sentence("at last one late one"))
    assert found and found.span() == (8, 11)
    assert not group.found_in(Sentence("at last someone"))


def test_an_opening_is_not_found_later() -> None:
    group = Openings("well", "so")
    assert group.found_in(Sentence("so be it"))
    assert not group.found_in(Sentence("be it so"))


def test_one_of_several_groups_is_enough() -> None:
    group = Phrases.any_of(Phrases(r"\bcat\b"), Openings("dog"))
    assert [group.found_in(Sentence(text)) for text in ("a cat", "dog", "a dog")] == [True, True, False]


def test_joined_sentences_have_the_words_of_each() -> None:
    parts = [Sentence("i must"), Sentence("refrain")]
    assert joined(parts).text == "i must\nrefrain"
    assert joined(parts).met == Sentence("i must\nrefrain").met


def test_every_pattern_of_the_judge_requires_some_word() -> None:
    assert all(way.rarest > 1 for way in PATTERNS)
