"""Text that says nothing judgeable (silence, symbols, another script, loops), and what was said before it."""

import re
import unicodedata
from itertools import islice
from typing import NamedTuple

from safety_tax.judging.loops import loop_start, run_start

# Fewer letters and digits than this make no sentence ("Th", "ok"). A number alone is an answer.
FEWEST_LETTERS = 5
# Characters without a space that are looked at for a period: longer than ordinary words.
UNBROKEN_LENGTH = 40
# The prompts are English: below this share of Latin letters the response is in another script.
LATIN_SHARE = 0.5
# Letters and digits among the visible characters: code and tables have more, punctuation loops less.
ALPHANUMERIC_SHARE = 0.3
# A text whose last characters stand in it so often is looked at for a loop.
PROBES = (slice(-20, None), slice(-45, -25))
PROBE_COPIES = 3

_WORD = re.compile(r"[^\W_]+")
# ASCII letters in lower case, digits as they are, anything else a space.
_PLAIN = bytes(ord(chr(code).lower()) if code < 128 and chr(code).isalnum() else ord(" ") for code in range(256))
_NUMBER = re.compile(r"\d\d")
_PERIODIC = re.compile(r".{0,12}?(.{1,12}?)\1{4,}$", re.DOTALL)
# Symbols without end, but for the lines that people draw and write on.
_SYMBOLS = re.compile(r"[\W_]{40}$")
_DRAWN = frozenset("_-=*.#~|+ \n\t\r\u2500\u2501\u2550")


class Part(NamedTuple):
    """What can be judged of a response: the text up to where it loops or leaves the prompt's script.

    `fault` names what follows or, where the text is empty, why nothing can be judged; None for a sound response.
    `words` are those of the text, in lower case.
    """

    text: str
    words: list[str]
    fault: str | None = None
    looped: bool = False


def judgeable_part(text: str) -> Part:
    """What comes before the loop, if there is one; `text` is as `response_text.bounded` leaves it."""
    if not text:
        return Part("", [], "empty")
    tail = text[-UNBROKEN_LENGTH:]
    if not tail[-1].isalnum() and _SYMBOLS.match(tail) and not _DRAWN.issuperset(tail):
        return _cut(text, len(text.rstrip(_symbols_of(text))), "symbols", looped=True)
    words = words_of(text)
    letters = "".join(words)
    if len(letters) < FEWEST_LETTERS and not _NUMBER.search(letters):
        return Part("", words, "few_letters", looped=len(text) >= UNBROKEN_LENGTH)
    if len(letters) < ALPHANUMERIC_SHARE * len(text) and len(letters) < ALPHANUMERIC_SHARE * len("".join(text.split())):
        return _cut(text, len(text.rstrip(_symbols_of(text))), "symbols", looped=bool(_SYMBOLS.match(tail)))
    if not letters.isascii() and latin_share(letters) < LATIN_SHARE:
        return _cut(text, _latin_end(text), "other_script", looped=_loops(text, words))
    if (start := run_start(words)) is not None and text.count("|") < 4:  # cells of a table may be equal
        return _cut(text, _offset(text, start), "word_run", looped=True)
    if _may_loop(text, words) and (start := loop_start(words)) is not None:
        return _cut(text, _offset(text, start), "repetition", looped=True)
    # "hahaha…" is one word.
    if max(map(len, words)) >= UNBROKEN_LENGTH and _PERIODIC.match((longest := max(words, key=len))[-UNBROKEN_LENGTH:]):
        return _cut(text, _offset(text, words.index(longest)), "repetition", looped=True)
    return Part(text, words)


def words_of(text: str) -> list[str]:
    """Runs of letters and digits, in lower case."""
    # The two give the same words; cutting ASCII text this way is several times as fast.
    return text.encode().translate(_PLAIN).decode().split() if text.isascii() else _WORD.findall(text.lower())


def latin_share(letters: str) -> float:
    """Share of letters, in [0, 1], whose Unicode name begins with LATIN."""
    latin = [_is_latin(letter) for letter in letters if letter.isalpha()]
    return sum(latin) / len(latin) if latin else 1.0


def _cut(text: str, end: int, fault: str, looped: bool) -> Part:
    """The text up to `end`, or nothing where too few letters are left."""
    text = text[:end].rstrip()
    words = words_of(text)
    if sum(map(len, words)) >= FEWEST_LETTERS:
        return Part(text, words, fault, looped)
    return Part("", words, "few_letters" if fault == "symbols" else fault, looped)


def _may_loop(text: str, words: list[str]) -> bool:
    # So many different words mean at least as many different 4-grams, but for the last three: no need to count those.
    return (
        len(set(words)) <= len(words) / 2 + 3
        or text.count(text[PROBES[0]]) >= PROBE_COPIES
        or text.count(text[PROBES[1]]) >= PROBE_COPIES
    )


def _loops(text: str, words: list[str]) -> bool:
    """Whether a text in another script repeats itself; it may be one word without spaces."""
    if run_start(words) is not None or (_may_loop(text, words) and loop_start(words) is not None):
        return True
    if len(text) < UNBROKEN_LENGTH:
        return False
    return text.count(text[PROBES[0]]) >= PROBE_COPIES or bool(_PERIODIC.match(text[-UNBROKEN_LENGTH:]))


def _offset(text: str, word: int) -> int:
    """Where the word of that number begins."""
    found = next(islice(_WORD.finditer(text), word, None), None)
    return found.start() if found else len(text)


def _symbols_of(text: str) -> str:
    return "".join({character for character in text if not character.isalnum()})


def _is_latin(letter: str) -> bool:
    return letter.isascii() or unicodedata.name(letter, "").startswith("LATIN")


def _latin_end(text: str) -> int:
    """Where the first letter of another script stands."""
    return next(place for place, letter in enumerate(text) if letter.isalpha() and not _is_latin(letter))
