"""What a reader gives: a prompt before it has an id, a split and a place in the order."""

import hashlib
import re
import unicodedata
from typing import NamedTuple


class Item(NamedTuple):
    """One prompt of a dataset. `choices` and `gold` for questions, `pair` and `answer` for benign prompts."""

    group: str
    text: str
    choices: list[str] | None = None
    gold: int | None = None
    pair: str | None = None
    answer: str | None = None

    def id(self) -> str:
        """16 hex digits of the SHA-256 of the normalised text and options: the same on every machine."""
        parts = [normalised(self.text), *(choice.strip() for choice in self.choices or [])]
        return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def normalised(text: str) -> str:
    """Words in small letters with single spaces: what two prompts must share to be the same prompt."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    words = " ".join(re.findall(r"\w+", folded))
    return words or folded.strip()
