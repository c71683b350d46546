"""Is the final answer to a problem right?

The final answer is the last marked one, by `\\boxed{}`, `####`, `<answer>` or "answer is"; without a mark it is the
last number.
lm-evaluation-harness keeps the two apart in the same way, as its strict and flexible filters for GSM8K.
"""

import re
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from safety_tax.tokens.thoughts import without_thought


class Found(NamedTuple):
    """Whether the final answer is right: marked or else the last number, and marked alone."""

    correct: bool
    marked_correct: bool


BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
# `#### 18`, `The answer is 18.`, `The final answer is:` and 18 on the next line, `<answer>18</answer>`. Where a clause
# ends, or another mark begins, the answer does.
MARK = r"(?:####|\banswer\s+is\b|<answer>)"
LINE = re.compile(rf"{MARK}[\s:*]*((?:(?!{MARK}|</answer>)[^\n])*)", re.I)
CLAUSE = re.compile(r"[.;!?](?=\s|$)|,\s")
# What stands around a number and is no part of it: LaTeX's spaces and signs, markdown, currencies.
AROUND = re.compile(r"\\[,;!: ]|\\(?:text|mathrm|mathbf)\b|\\?[$%]|[€£¥₹*`{}]|\\[()\[\]]")
FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*([^{}\s]+)\s*\}\s*\{\s*([^{}\s]+)\s*\}")
# Between groups of three digits, as it is set in print.
THIN_SPACE = re.compile(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))")
DIGITS = r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+"
# A minus after a letter, a digit or a bracket subtracts. Longer than any answer is no number: a loop of digits.
NUMBER = re.compile(rf"(?:(?<![\w)])[-+])?(?:(\d{{1,9}})\s+(?=\d+/))?({DIGITS})(?:\s?/\s?(\d{{1,50}})(?![\d.,]*\d))?")
MOST_DIGITS = 50
MOST_CHARACTERS = 200


def check_answer(response: str, right: str) -> Found:
    """Compare a response with the right final answer: as exact numbers where that is one, else as normalised text.

    Commas, currencies, units and percent signs do not count. A thought is not searched; one that did not end gave no
    answer.
    """
    answer = without_thought(response)
    if answer is None:
        return Found(False, False)
    marked, expected = marked_answers(answer), number(right)
    if expected is None:
        lines = [line for line in answer.splitlines() if line.strip()]
        said = marked or lines[-1:]
        correct = bool(said) and words(said[-1]) == words(right)
        return Found(correct, bool(marked) and correct)
    values = [value for text in marked if (value := marked_value(text)) is not None]
    last = values or list(numbers(answer))
    correct = bool(last) and last[-1] == expected
    return Found(correct, bool(values) and correct)


def marked_answers(response: str) -> list[str]:
    """What a response, without its thoughts, marks as final answers, in order."""
    answer = without_thought(response) or ""
    found = [(match.start(), _braced(answer, match.end())) for match in BOXED.finditer(answer)]
    for match in LINE.finditer(answer):
        if not BOXED.search(match[1]):  # else the box alone, found above
            found.append((match.start(), CLAUSE.split(match[1], maxsplit=1)[0]))
    return [text.strip() for _, text in sorted(found) if text.strip()]


def _braced(text: str, start: int) -> str:
    """Up to the brace that closes the one before `start`, or the end of the line: so much as an answer is long."""
    depth = 1
    text = text[: start + MOST_CHARACTERS]
    for place in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        if depth == 0 or text[place] == "\n":
            return text[start:place]
    return text[start:]


def marked_value(text: str) -> Fraction | None:
    """The number of a marked answer: of `3 + 4 = 7` what it equals, else the first, since a unit or reason follows."""
    return next(numbers(text.rpartition("=")[2]), None)


def number(text: str) -> Fraction | None:
    """The number that a text is, whole; None where it is more or something else."""
    plain = _plain(text).strip().removesuffix(".")
    match = NUMBER.fullmatch(plain)
    return _value(match) if match else None


def numbers(text: str) -> Iterator[Fraction]:
    """The numbers in a text, in order."""
    for match in NUMBER.finditer(_plain(text)):
        value = _value(match)
        if value is not None:
            yield value


def _plain(text: str) -> str:
    text = THIN_SPACE.sub(",", text.replace("\N{MINUS SIGN}", "-").replace("{,}", ","))
    text = FRACTION.sub(r" \1/\2", text)
    return AROUND.sub("", text)


def _value(match: re.Match[str]) -> Fraction | None:
    """The exact value of a `NUMBER`: decimals are decimals, never floats."""
    whole, digits, divisor = match.groups()
    digits = digits.replace(",", "")
    if len(digits) > MOST_DIGITS or (divisor and not int(divisor)):
        return None
    value = Fraction(Decimal(digits)) / int(divisor or 1) + int(whole or 0)
    return -value if match[0].startswith("-") else value


def words(text: str) -> str:
    """Small letters and digits with single spaces: what two answers in words must share."""
    return " ".join(re.findall(r"\w+", AROUND.sub("", text).casefold()))
