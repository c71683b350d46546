"""A response made plain enough to match: one spelling for quotes, case, contractions and white space."""

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

# A longer response is judged by its beginning, where refusals stand, and its end, where loops show.
HEAD_CHARACTERS = 4_000
TAIL_CHARACTERS = 1_000

_SPACES = " \t\r\n\f\v\u00a0\u200b\ufeff"
_INVISIBLE = dict.fromkeys(
    [0xAD, 0x34F, 0x61C, 0x180E, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF]
)
_QUOTES = str.maketrans(
    dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u00b4", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb", '"')
    | dict.fromkeys("\u2013\u2014\u2015", "-")
)
_MARKDOWN = str.maketrans("", "", "*_#~|>")

# In this order: the irregular ones first, so that "can't" does not become "ca not".
_CONTRACTIONS = (
    ("can't", "cannot"),
    ("won't", "will not"),
    ("shan't", "shall not"),
    ("ain't", "am not"),
    ("n't", " not"),
    ("'m ", " am "),
    ("'re ", " are "),
    ("'ve ", " have "),
    ("'ll ", " will "),
    ("i'd ", "i would "),
    ("it's ", "it is "),
    ("that's ", "that is "),
    ("there's ", "there is "),
    ("here's ", "here is "),
    ("let's ", "let us "),
)
# What is written where the apostrophe was dropped, and other spellings of the same.
_BARE_SPELLINGS = (
    ("can not ", "cannot "),
    ("i cant ", "i cannot "),
    ("i wont ", "i will not "),
    ("i dont ", "i do not "),
    ("im sorry", "i am sorry"),
    ("im not ", "i am not "),
    ("im unable", "i am unable"),
)

_LIST_MARK = re.compile(r"(?:[-*+\u2022] |\(?\d{1,2}[.):] ?(?=\D)|step \d{1,2}\b:?)[ *]*")
# A list whose line breaks were lost: "1. Wash the rice. 2. Bring water to the boil."
_INLINE_MARK = re.compile(r"(?<=[.:;!?] )(?=[1-9][.)] [a-z\"'(*])")
# Plain replacement cuts sentences several times faster than a pattern that looks behind each space.
_SENTENCE_ENDS = tuple((mark + after + " ", mark + after + "\n") for after in ("", '"', "'", ")") for mark in ".!?")


class Sentence(NamedTuple):
    """Lower case, contractions written out, no markdown; `is_item` for the first sentence of a list item."""

    text: str
    is_item: bool


def bounded(text: str) -> str:
    """The response without white space around it and, when it is very long, without its middle; NFKC, plain quotes."""
    text = text.strip(_SPACES)
    if len(text) > HEAD_CHARACTERS + TAIL_CHARACTERS:
        text = text[:HEAD_CHARACTERS] + "\n" + text[-TAIL_CHARACTERS:]
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", text).translate(_INVISIBLE).translate(_QUOTES).strip(_SPACES)


def sentences_of(text: str) -> Iterator[Sentence]:
    """The sentences of a bounded text, cut as they are asked for."""
    # The space lets a contraction at the end be written out, too.
    plain = text.lower().strip("' ")
    if plain.count('"') == 2 and plain[0] == plain[-1] == '"':  # a reply in quotation marks is no quotation
        plain = plain[1:-1]
    plain += " "
    counts = "1" in plain and "2" in plain
    for line in plain.split("\n"):
        line = _written_out(line)
        for part in _INLINE_MARK.sub("\n", line).split("\n") if counts else (line,):
            yield from _sentences_of_line(part.strip())


def _written_out(line: str) -> str:
    if "'" in line or "`" in line:
        line = line.replace("`", "'")
        for short, long in _CONTRACTIONS:
            line = line.replace(short, long)
    for short, long in _BARE_SPELLINGS:
        line = line.replace(short, long)
    return line


def _sentences_of_line(line: str) -> Iterator[Sentence]:
    mark = _LIST_MARK.match(line)
    line = " ".join((line[mark.end() :] if mark else line).translate(_MARKDOWN).split())
    for end, cut in _SENTENCE_ENDS if '"' in line or "'" in line or ")" in line else _SENTENCE_ENDS[:3]:
        line = line.replace(end, cut)
    if line:
        first, *others = line.split("\n")
        yield Sentence(first, is_item=mark is not None)
        for other in others:
            yield Sentence(other, is_item=False)
