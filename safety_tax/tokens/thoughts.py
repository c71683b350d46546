"""Thoughts before an answer: how models mark them, and what an answer says once they are taken out.

What is between `<think>` and `</think>`, and what other models write for the two, is never judged.
"""

import re
from typing import NamedTuple


class Marks(NamedTuple):
    """How one kind of thought begins and ends."""

    opens: re.Pattern[str]
    closes: re.Pattern[str]
    is_word: bool = False
    """Whether a text may hold the mark for another reason, such as "<reasoning>" in a form to fill in."""


def _marks(opens: str, closes: str, is_word: bool = False) -> Marks:
    return Marks(re.compile(opens, re.IGNORECASE), re.compile(closes, re.IGNORECASE), is_word)


WORDS = ("thoughts?", "reasoning", "reflection", "analysis", "scratchpad", "inner_?monologue", "cot")
KINDS = (
    _marks(r"<(?:seed:|mm:)?think(?:ing)?(?: [^<>]*)?>", r"</(?:seed:|mm:)?think(?:ing)?>"),
    *(_marks(rf"<{word}>", rf"</{word}>", is_word=True) for word in WORDS),
    _marks(r"\[THINK\]", r"\[/THINK\]"),  # Mistral's Magistral
    _marks("◁think▷", "◁/think▷"),  # Kimi
    _marks(r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),  # OpenThinker, Sky-T1
    _marks(r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),  # Cohere
    _marks(r"<\|thinking\|>", r"<\|/thinking\|>"),
)
# gpt-oss writes to channels, and its answer to the last. The second form is what is left where special tokens were
# taken out: "analysisThe user asks … assistantfinalHello".
CHANNEL = re.compile(r"\s*<\|channel\|>")
FINAL = re.compile(r"<\|channel\|>\s*final\b[^<]*(?:<\|constrain\|>[^<]*)?<\|message\|>")
BARE_CHANNEL, BARE_FINAL = re.compile(r"\s*analysis(?=[A-Z])"), "assistantfinal"
CHANNEL_MARKS = ("<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>")
_ANY = re.compile("|".join(pattern.pattern for kind in KINDS for pattern in kind[:2]), re.IGNORECASE)
_FIRST_SIGNS = "<[◁"
TAIL_CHARACTERS = 200
"""Of a prompt, which the mark that it ends in is looked for in."""


def is_mark(token: str) -> bool:
    """Whether a special token begins or ends a thought: decoding has to leave it in."""
    return _ANY.fullmatch(token) is not None


def opened_by(prompt: str) -> str:
    """The mark of a thought that a prompt ends in, for the answer goes on with it; empty where it does not."""
    tail = prompt[-TAIL_CHARACTERS:].rstrip()
    *_, last = [None, *_ANY.finditer(tail)]
    opens = last is not None and last.end() == len(tail) and any(kind.opens.fullmatch(last[0]) for kind in KINDS)
    return f"{last[0]}\n" if last is not None and opens else ""


def closing(mark: str) -> str:
    """The mark that ends the thought which another one begins."""
    if "|" in mark:
        return re.sub("START|begin", lambda found: {"START": "END"}.get(found[0], "end"), mark).replace("|t", "|/t")
    return f"{mark[0]}/{mark[1:].partition(' ')[0].rstrip('>')}>" if mark[0] == "<" else f"{mark[0]}/{mark[1:]}"


def without_thought(text: str) -> str | None:
    """The response without its thoughts; None when it begins with one that never ends.

    A prompt template may have opened the thought, so that the response holds its end alone.
    """
    if CHANNEL.match(text):
        *_, last = [None, *FINAL.finditer(text)]
        return None if last is None else text[last.end() :].partition("<|end|>")[0]
    if BARE_CHANNEL.match(text):
        return text.rpartition(BARE_FINAL)[2] if BARE_FINAL in text else None
    if not any(map(text.__contains__, _FIRST_SIGNS)) or not _ANY.search(text):
        return text
    # The kind that stands first may hold others.
    first = {place: kind for kind in KINDS if (place := _place(text, kind)) is not None}
    said: str | None = text
    for place in sorted(first):
        said = None if said is None else _without(said, first[place])
    return said


def _place(text: str, kind: Marks) -> int | None:
    places = [found.start() for pattern in kind[:2] if (found := pattern.search(text))]
    return min(places, default=None)


def _without(text: str, kind: Marks) -> str | None:
    """The same for one kind of marks."""
    opens, closes = kind.opens.search(text), kind.closes.search(text)
    if closes is not None and (opens is None or closes.start() < opens.start()):
        text = text[closes.end() :]  # the prompt opened it
    elif opens is not None and not text[: opens.start()].strip():
        if closes is None:
            return None
        text = text[closes.end() :]
    # What is left begins with an answer. A thought within it goes, too.
    pieces, place = list[str](), 0
    while opens := kind.opens.search(text, place):
        closes = kind.closes.search(text, opens.end())
        if closes is None and kind.is_word:
            break
        pieces.append(text[place : opens.start()])
        place = closes.end() if closes else len(text)
    return kind.closes.sub(" ", " ".join([*pieces, text[place:]]))
