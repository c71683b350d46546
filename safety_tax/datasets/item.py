"""What a reader gives: a prompt before it has an id, a split and a place in the order."""

import hashlib
import re
import unicodedata
from typing import Any, NamedTuple

NO_SIGNS = re.compile(r"[\w\s]+")
"""Letters, digits and spaces, none of which calculates or compares."""


class Item(NamedTuple):
    """One prompt of a dataset, or one solved example; `Prompt` says which of the fields belong to which kind."""

    group: str
    text: str
    choices: list[str] | None = None
    gold: int | None = None
    pair: str | None = None
    answer: str | None = None
    solution: str | None = None
    checks: list[dict[str, Any]] | None = None

    def id(self) -> str:
        """16 hex digits of the SHA-256 of the normalised text and options: the same on every machine.

        Questions may differ in a sign alone: MMLU has three fields with the same four options, Q(√2 + √3), Q(√2, √3)
        and Q(√2·√3). The signs of a question are part of its id, if it has any.
        """
        parts = [normalised(self.text), *(choice.strip() for choice in self.choices or [])]
        if self.choices and (found := signs(self.text)):
            parts.append(found)
        return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def normalised(text: str) -> str:
    """Words in small letters with single spaces: what two prompts must share to be the same prompt."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = " ".join(re.findall(r"\w+", folded))
    return words or folded.strip()


def signs(text: str) -> str:
    """The characters of a text that calculate or compare, in order: a formula needs what `normalised` leaves out."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    rest = NO_SIGNS.sub("", folded)  # most of it, and the categories of the rest cost less than of all
    return "".join(c for c in rest if unicodedata.category(c).startswith("S") or c in "*/%·")
