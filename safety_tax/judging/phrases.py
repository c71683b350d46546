"""Phrases that are searched only in sentences that have the words for them.

Most sentences hold none of the words that most phrases need. Which they hold is looked up once for a sentence, word by
word, as bits of one number. A pattern runs where all its words are there: some 7 runs for 200 characters.
"""

import re
from collections.abc import Callable, Sequence
from functools import lru_cache, reduce
from operator import or_
from typing import NamedTuple

from safety_tax.judging.required_words import required_words

# Requirements kept for one pattern, the rarest; more of them spare no further run.
REQUIREMENTS = 4
# Different words, with what punctuation stands at them, that are remembered; longer ones never.
MOST_REMEMBERED = 50_000
LONGEST_REMEMBERED = 30
# Of one group of phrases, the remembered combinations of words that were found together.
COMBINATIONS = 2_000

# The bit of every sentence, for a pattern that requires no word.
_ANY = 1
_WORD = re.compile(r"\w+")


class _Requirements(dict[str, int]):
    """For a piece of text between spaces, the requirements that its words meet: a bit each."""

    def __init__(self) -> None:
        self._bits: dict[frozenset[str], int] = {}
        self._words: dict[str, int] = {}
        self._beginnings: dict[str, int] = {}
        self._lengths: list[int] = []

    def add(self, words: frozenset[str]) -> int:
        """The bit of a requirement that one of these words meets."""
        if words not in self._bits:
            self.clear()
            bit = self._bits[words] = _ANY << len(self._bits) + 1
            for word in words:
                table = self._beginnings if word.endswith("*") else self._words
                table[word.rstrip("*")] = table.get(word.rstrip("*"), 0) | bit
            self._lengths = sorted({len(beginning) for beginning in self._beginnings})
        return self._bits[words]

    def __missing__(self, piece: str) -> int:
        bits = 0
        for word in _WORD.findall(piece):
            bits |= self._words.get(word, 0)
            for length in self._lengths:
                if length > len(word):
                    break
                bits |= self._beginnings.get(word[:length], 0)
        if len(self) < MOST_REMEMBERED and len(piece) <= LONGEST_REMEMBERED:
            self[piece] = bits
        return bits


_requirements = _Requirements()


class Sentence:
    """Lower case, contractions written out, no markdown; `is_item` for the first sentence of a list item.

    `met` has the bits of the requirements that its words meet. Phrases made later than a sentence are not in it.
    """

    __slots__ = ("is_item", "met", "text")

    def __init__(self, text: str, is_item: bool = False, met: int | None = None) -> None:
        self.text = text
        self.is_item = is_item
        self.met = reduce(or_, map(_requirements.__getitem__, text.split()), _ANY) if met is None else met


def joined(sentences: Sequence[Sentence]) -> Sentence:
    """Several sentences as one text, a line each."""
    met = reduce(or_, [sentence.met for sentence in sentences], _ANY)
    return Sentence("\n".join([sentence.text for sentence in sentences]), met=met)


class _Way(NamedTuple):
    """One pattern of several: the bit of its rarest requirement, those of all, and how it is looked for."""

    rarest: int
    required: int
    find: Callable[[str], re.Match[str] | None]


class Phrases:
    """Patterns of which one is enough, wherever it stands; all of them begin with `before`."""

    opens = False

    def __init__(self, *alternatives: str, before: str = "") -> None:
        self._set([self._way(f"{before}(?:{alternative})" if before else alternative) for alternative in alternatives])

    @classmethod
    def any_of(cls, *groups: "Phrases") -> "Phrases":
        """Several groups as one, to ask whether any is found."""
        union = cls()
        union._set([way for group in groups for way in group._ways])
        return union

    def _way(self, pattern: str) -> _Way:
        bits = [_requirements.add(words) for words in required_words(pattern, self.opens)[:REQUIREMENTS]] or [_ANY]
        compiled = re.compile(pattern)
        return _Way(bits[0], reduce(or_, bits), compiled.match if self.opens else compiled.search)

    def _set(self, ways: list[_Way]) -> None:
        self._ways = ways
        self._rarest = reduce(or_, (way.rarest for way in ways), 0)
        self._with = lru_cache(COMBINATIONS)(lambda met: [way for way in ways if way.rarest & met])

    def found_in(self, sentence: Sentence) -> bool:
        """Whether the sentence has any of the phrases."""
        met = sentence.met
        if rarest := met & self._rarest:
            for _, required, find in self._with(rarest):
                if met & required == required and find(sentence.text):
                    return True
        return False

    def search(self, sentence: Sentence) -> re.Match[str] | None:
        """The first of the phrases in the sentence; of those that begin together, the one that was given first."""
        first = None
        met = sentence.met
        if rarest := met & self._rarest:
            for _, required, find in self._with(rarest):
                if met & required == required:
                    found = find(sentence.text)
                    if found and (first is None or found.start() < first.start()):
                        first = found
        return first


class Openings(Phrases):
    """Phrases that stand at the beginning of a sentence."""

    opens = True
