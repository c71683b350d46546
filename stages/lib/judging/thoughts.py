"""Thoughts: what a reasoning model writes before its answer, between `<think>` and `</think>`."""

BEGIN, END = "<think>", "</think>"


def after_thought(text: str) -> str | None:
    """The answer, what follows the last thought; None where a thought did not end."""
    _, ended, answer = text.rpartition(END)
    if BEGIN in answer and (ended or answer.lstrip().startswith(BEGIN)):
        return None
    return answer.lstrip() if ended else text
