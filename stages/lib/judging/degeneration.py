"""Text that says nothing judgeable: silence, symbols, another script, loops."""

import operator
import re
import unicodedata
from itertools import pairwise

# Fewer letters and digits than this make no sentence ("Th", "ok"). A number alone is an answer.
FEWEST_LETTERS = 5
# Share of 4-grams of words that occurred before: seq-rep-4 of Welleck et al. 2020 (arXiv:1908.04319), who measure
# .005 for people and .44 for greedy decoding that has begun to loop. The highest among the 900 labelled responses that
# the rules were developed on is .27; two copies of a text have about .5.
REPEATED_SHARE = 0.5
# A stumble inside a long, sensible response is still judgeable: a run of one word counts when the response ends in it
# or it makes up this share of the words.
RUN_SHARE = 0.05
RUN_LENGTH = 4
# Characters without a space that are looked at for a period: longer than ordinary words.
UNBROKEN_LENGTH = 40
# The prompts are English: below this share of Latin letters the response is in another script.
LATIN_SHARE = 0.5
# Letters and digits among the visible characters: code and tables have more, punctuation loops less.
ALPHANUMERIC_SHARE = 0.3

_WORD = re.compile(r"[^\W_]+")
_TO_SPACES = {code: " " for code in range(128) if not chr(code).isalnum()}
_NUMBER = re.compile(r"\d\d")
_PERIODIC = re.compile(r".{0,12}?(.{1,12}?)\1{4,}$", re.DOTALL)


def degeneration(text: str) -> str | None:
    """Name what is broken about a response, or None; `text` is as `response_text.bounded` leaves it."""
    if not text:
        return "empty"
    # The two give the same words; cutting ASCII text this way is twice as fast.
    words = text.lower().translate(_TO_SPACES).split() if text.isascii() else _WORD.findall(text.lower())
    letters = "".join(words)
    if len(letters) < FEWEST_LETTERS and not _NUMBER.search(letters):
        return "few_letters"
    if len(letters) < ALPHANUMERIC_SHARE * len(text) and len(letters) < ALPHANUMERIC_SHARE * len("".join(text.split())):
        return "symbols"
    if not letters.isascii() and latin_share(letters) < LATIN_SHARE:
        return "other_script"
    if has_word_run(words):
        return "word_run"
    # So many different words mean at least as many different 4-grams, but for the last three: no need to count those.
    if len(set(words)) <= len(words) / 2 + 3 and repeated_share(words) >= REPEATED_SHARE:
        return "repetition"
    # "hahaha…" is one word.
    if max(map(len, words)) >= UNBROKEN_LENGTH and _PERIODIC.match(max(words, key=len)[-UNBROKEN_LENGTH:]):
        return "repetition"
    return None


def has_word_run(words: list[str]) -> bool:
    """Whether one word stands RUN_LENGTH times running, at the end or as a good part of the response.

    Numbers do not count: tables and code repeat them.
    """
    if not any(map(operator.eq, words, words[1:])):
        return False
    longest = length = 1
    for word, following in pairwise(words):
        length = length + 1 if word == following and not word.isdecimal() else 1
        longest = max(longest, length)
    # `length` is now that of the run which ends the response.
    return length >= RUN_LENGTH or (longest >= RUN_LENGTH and longest >= RUN_SHARE * len(words))


def repeated_share(words: list[str]) -> float:
    """Share of 4-grams, in [0, 1], that occurred before: 1 - distinct / all (seq-rep-4, Welleck et al. 2020)."""
    if len(words) < 4:
        return 0.0
    grams = set(zip(words, words[1:], words[2:], words[3:], strict=False))
    return 1 - len(grams) / (len(words) - 3)


def latin_share(letters: str) -> float:
    """Share of letters, in [0, 1], whose Unicode name begins with LATIN."""
    latin = [unicodedata.name(letter, "").startswith("LATIN") for letter in letters if letter.isalpha()]
    return sum(latin) / len(latin) if latin else 1.0
