"""What a response says once its thought has ended: `<think>…</think>` is never judged."""

import re

_TAG = re.compile(r"<(/?)think(?:ing)?>")
_THOUGHT = re.compile(r"<think(?:ing)?>.*?(?:</think(?:ing)?>|\Z)|</think(?:ing)?>", re.DOTALL)


def without_thought(text: str) -> str | None:
    """The response without its thoughts; None when it begins with one that never ends.

    A prompt template may have opened the thought, so that the response holds its end alone.
    """
    if "think" not in text or (first := _TAG.search(text)) is None:
        return text
    if first[1]:
        return _THOUGHT.sub(" ", text[first.end() :])
    if text[: first.start()].strip():  # something is said before the thought
        return _THOUGHT.sub(" ", text)
    end = next((tag for tag in _TAG.finditer(text, first.end()) if tag[1]), None)
    return None if end is None else _THOUGHT.sub(" ", text[end.end() :])
