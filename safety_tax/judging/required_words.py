"""Words that a text must have for a pattern to match, read off the parsed pattern.

`\\bi (?:must|shall) refrain` needs one of "must" and "shall", and it needs "refrain*". The star marks the beginning of
a word: the pattern does not say how the word ends. A text without these words need not be searched. Nothing is claimed
of a part of a pattern that is not understood here. So a missing word always rules a match out.
"""

import re._constants as codes
import re._parser as parser
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from safety_tax.judging.languages import ENGLISH

Node = tuple[Any, Any]
"""A part of a parsed pattern: the parser's code for its kind, and the argument of that code."""

# The weight of a word is its rough share of sentences. Function words stand in every other one.
COMMON = ENGLISH | {"am"}
COMMON_WEIGHT = 100
SHORT_BEGINNING = 3
SHORT_WEIGHT = 10
# More words than this are no requirement worth keeping.
MOST_WORDS = 500
# Steps of one walk over a pattern, which may have very many beginnings.
MOST_STEPS = 600

_REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT)
_LOOKS = (codes.ASSERT, codes.ASSERT_NOT)
_ENDS = (codes.AT_BOUNDARY, codes.AT_END, codes.AT_END_STRING)
_ANYTHING = (codes.ANY, None)


def required_words(pattern: str, opens: bool = False) -> list[frozenset[str]]:
    """Sets of words, the rarest first: a match holds a word of each; `opens` for a match at a text's beginning only."""
    return sorted(set(_requirements(_flat(parser.parse(pattern)), (), opens)), key=_weight)


def _weight(words: Iterable[str]) -> int:
    return sum(
        COMMON_WEIGHT if word in COMMON else SHORT_WEIGHT if word.endswith("*") and len(word) <= SHORT_BEGINNING else 1
        for word in words
    )


def _flat(nodes: Iterable[Node]) -> tuple[Node, ...]:
    """The nodes with the contents of plain groups in their place, and letters that follow each other as one."""
    flat: list[Node] = []
    for code, argument in nodes:
        if code is codes.SUBPATTERN and not any(argument[1:3]):
            flat += _flat(argument[3])
        elif code is codes.LITERAL and isinstance(argument, int):
            letters = chr(argument)
            if flat and flat[-1][0] is codes.LITERAL and _is_in_word(letters) and _is_in_word(flat[-1][1][-1]):
                letters = flat.pop()[1] + letters
            flat.append((code, letters))
        else:
            flat.append((code, argument))
    return tuple(flat)


def _requirements(nodes: tuple[Node, ...], after: tuple[Node, ...], begins: bool) -> Iterator[frozenset[str]]:
    """What nodes followed by others require; `begins` when a word that starts here has nothing before it."""
    for place, (code, argument) in enumerate(nodes):
        rest = nodes[place + 1 :] + after
        if begins and (words := _first_words(nodes[place:] + after)):
            yield words
        if code is codes.BRANCH:
            branches = [sorted(set(_requirements(_flat(one), rest, begins)), key=_weight) for one in argument[1]]
            # The rarest of each together, then the second of each…
            for rank in range(max(map(len, branches)) if all(branches) else 0):
                yield frozenset().union(*(branch[min(rank, len(branch) - 1)] for branch in branches))
        elif code in _REPEATS and argument[0] > 0:
            yield from _requirements(_flat(argument[2]), (_ANYTHING,), begins)
        begins = _begins_after(nodes[place : place + 1], begins)


def _begins_after(nodes: Iterable[Node], begins: bool) -> bool:
    """Whether a letter that follows the nodes is certainly the first of its word."""
    for code, argument in nodes:
        if spellings := _spellings(code, argument):
            begins = not any(_is_in_word(spelling[-1]) for spelling in spellings)
        elif code is codes.AT:
            begins = begins or argument in (codes.AT_BOUNDARY, codes.AT_BEGINNING)
        elif code is codes.BRANCH:
            begins = all([_begins_after(_flat(branch), begins) for branch in argument[1]])
        elif code in _REPEATS:
            fewest, _, repeated = argument
            again = begins and _begins_after(_flat(repeated), begins)
            begins = _begins_after(_flat(repeated), again) and (begins or fewest > 0)
        elif code not in _LOOKS:
            begins = False
    return begins


def _first_words(nodes: tuple[Node, ...]) -> frozenset[str] | None:
    """The words with which a match of the nodes may begin; None when they are too many, or it may begin without."""
    walk = _spelled(nodes, "")
    found = set(islice(walk, MOST_STEPS)) - {None}
    unfinished = next(walk, walk) is not walk
    return None if unfinished or len(found) > MOST_WORDS or found & {"", "*"} else frozenset(filter(None, found))


def _spelled(nodes: tuple[Node, ...], letters: str) -> Iterator[str | None]:
    """All spellings of the word that has begun with these letters, and a None for each step on the way."""
    yield None
    if not nodes:
        yield letters + "*"
        return
    (code, argument), rest = nodes[0], nodes[1:]
    if spellings := _spellings(code, argument):
        for spelling in spellings:
            if _is_in_word(spelling[0]):
                yield from _spelled(rest, letters + spelling)
            else:
                yield letters
    elif code is codes.AT and letters and argument in _ENDS:
        yield letters
    elif code is codes.AT and not letters and argument is codes.AT_BOUNDARY:
        yield from _spelled(rest, letters)
    elif code in _LOOKS:
        goes_on = code is codes.ASSERT and argument[0] > 0 and letters
        yield from _spelled(_flat(argument[1]) if goes_on else rest, letters)
    elif code is codes.BRANCH:
        for branch in argument[1]:
            yield from _spelled(_flat(branch) + rest, letters)
    elif code in _REPEATS:
        fewest, most, repeated = argument
        if fewest == 0:
            yield from _spelled(rest, letters)
        if most > 0:
            again = ((code, (max(fewest - 1, 0), most - 1, repeated)),)
            yield from _spelled(_flat(repeated) + again + rest, letters)
    else:
        yield letters + "*"


def _spellings(code: Any, argument: Any) -> list[str]:
    """What a node stands for: letters, or one of a few characters; nothing where it is something else."""
    if code is codes.LITERAL:
        return [argument]
    if code is codes.IN and all(kind is codes.LITERAL for kind, _ in argument):
        return [chr(character) for _, character in argument]
    return []


def _is_in_word(character: str) -> bool:
    r"""Whether `\w` matches it."""
    return character.isalnum() or character == "_"
