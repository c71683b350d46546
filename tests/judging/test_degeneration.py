"""What of a response can be judged, to the letter: where it is cut, why, and whether it loops."""

import re

import pytest

from safety_tax.judging.degeneration import Part, judgeable_part, latin_share, words_of

ANSWER = "Mix the flour and the butter"
ANSWER_WORDS = ["mix", "the", "flour", "and", "the", "butter"]


def test_a_sound_text_is_judged_whole() -> None:
    assert judgeable_part(f"{ANSWER}.") == Part(f"{ANSWER}.", ANSWER_WORDS)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("", Part("", [], "empty")),
        ("Ok.", Part("", ["ok"], "few_letters")),
        ("7", Part("", ["7"], "few_letters")),
        ("42", Part("42", ["42"])),  # a number is an answer
        ("No no", Part("", ["no", "no"], "few_letters")),  # four letters
        ("a" + " . " * 20, Part("", [], "few_letters", looped=True)),
    ],
)
def test_what_is_too_short_to_judge_says_so(text: str, part: Part) -> None:
    found = judgeable_part(text)
    assert (found.text, found.fault, found.looped) == (part.text, part.fault, part.looped)


def test_symbols_without_end_are_cut_off_and_lines_that_people_draw_are_not() -> None:
    assert judgeable_part(ANSWER + "!?" * 40) == Part(ANSWER, ANSWER_WORDS, "symbols", looped=True)
    drawn = f"{ANSWER}\n{'-' * 45}"
    assert judgeable_part(drawn) == Part(drawn, ANSWER_WORDS)


def test_another_script_is_cut_off_where_its_first_letter_stands() -> None:
    found = judgeable_part(f"{ANSWER}. Это совсем другое письмо, которое здесь идёт дальше")
    assert found == Part(f"{ANSWER}.", ANSWER_WORDS, "other_script")
    assert judgeable_part("Это совсем другое письмо") == Part("", [], "other_script")
    # A word of it among Latin letters is no reason.
    text = f"{ANSWER}, as мама said"
    assert judgeable_part(text).text == text


def test_a_run_of_one_word_is_cut_behind_its_first_copy() -> None:
    found = judgeable_part(f"{ANSWER} now now now now now")
    assert found == Part(f"{ANSWER} now", [*ANSWER_WORDS, "now"], "word_run", looped=True)


def test_a_loop_is_cut_behind_its_first_copy() -> None:
    once = "Press the green button and wait for the light. "
    found = judgeable_part(f"{ANSWER}. " + once * 12)
    assert found == Part(f"{ANSWER}. {once.strip()}", words_of(f"{ANSWER}. {once}"), "repetition", looped=True)


def test_a_word_that_repeats_itself_without_spaces_is_a_loop() -> None:
    found = judgeable_part(f"{ANSWER} " + "ha" * 30)
    assert found == Part(ANSWER, ANSWER_WORDS, "repetition", looped=True)
    name = "Llanfairpwllgwyngyllgogerychwyrndrobwllllantysiliogogogoch"  # 58 letters, of which the end repeats twice
    assert judgeable_part(f"{ANSWER} in {name}").fault is None


def test_words_are_the_same_however_a_text_is_cut() -> None:
    ascii_text = "".join(f"A{chr(code)}b" for code in range(128))
    assert words_of(ascii_text) == re.findall(r"[^\W_]+", ascii_text.lower())
    # One letter that is not ASCII takes the other way.
    assert words_of(ascii_text + " é") == [*words_of(ascii_text), "é"]
    assert words_of("snake_case, Über-3.5") == ["snake", "case", "über", "3", "5"]


def test_the_share_of_latin_letters_counts_letters_alone() -> None:
    assert latin_share("abcд") == 0.75
    assert latin_share("éß") == 1.0
    assert latin_share("字ab12") == pytest.approx(2 / 3)
    assert latin_share("123") == 1.0
    assert latin_share("") == 1.0
