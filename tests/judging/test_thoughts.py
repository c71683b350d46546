"""What is left of a response when its thoughts are taken out, to the character."""

import pytest

from safety_tax.judging.thoughts import without_thought


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("", ""),
        ("I think so.", "I think so."),
        ("<thinks>a</thinks> b", "<thinks>a</thinks> b"),  # another tag
        ("<think>a</think> b", " b"),
        ("\n <thinking>a\nb</thinking>c", "c"),
        ("a</think> b", " b"),  # the prompt's template opened it
        ("a <think>b</think> c", "a   c"),
        ("a <think>b", "a  "),
        ("<think>a</think> b <think>c</think> d", " b   d"),
        ("<think>a <think>b</think> c</think> d", " c  d"),  # the first end closes it; a second one is no text
        ("<think>a", None),
        ("  <think>a <thinking>b", None),
        ("<think></think>", ""),
    ],
)
def test_what_is_left_without_thoughts(text: str, rest: str | None) -> None:
    assert without_thought(text) == rest
