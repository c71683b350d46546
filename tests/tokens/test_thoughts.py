"""What is left of a response when its thoughts are taken out, to the character."""

import pytest

from safety_tax.tokens.thoughts import closing, is_mark, opened_by, without_thought


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
        ('<think lang="en">a</think> b', " b"),
        ("<THINK>a</THINK> b", " b"),
        ("[THINK]a[/THINK]b", "b"),
        ("[THINK]a", None),
        ("◁think▷a◁/think▷b", "b"),
        ("<seed:think>a</seed:think>b", "b"),
        ("<|begin_of_thought|>a<|end_of_thought|>b", "b"),
        ("<|START_THINKING|>a<|END_THINKING|>b", "b"),
        ("<reasoning>a</reasoning>b", "b"),
        ("<reasoning>a", None),
        ("<thought>a</thought><answer>b</answer>", "<answer>b</answer>"),
        ("<thinking>a <reflection>b</reflection> c</thinking>d", "d"),  # one kind within another
        ("<think>a</think><scratchpad>b</scratchpad>c", "c"),
        ("I resign because of <reasoning> below.", "I resign because of <reasoning> below."),  # a form to fill in
        # Channels, with their special tokens and without.
        ("<|channel|>analysis<|message|>a<|end|><|start|>assistant<|channel|>final<|message|>b", "b"),
        ("<|channel|>final <|constrain|>json<|message|>b<|end|>", "b"),
        ("<|channel|>analysis<|message|>a", None),
        ("analysisThe user asks.assistantfinalb", "b"),
        ("analysisThe user asks", None),
        ("analysis is hard", "analysis is hard"),
    ],
)
def test_what_is_left_without_thoughts(text: str, rest: str | None) -> None:
    assert without_thought(text) == rest


@pytest.mark.parametrize(
    ("prompt", "mark"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>\n"),
        ("<｜Assistant｜><think>", "<think>\n"),
        ("assistant\n<think>\n\n</think>\n\n", ""),  # a template that asks for no thought
        ("What does <think> mean?\nassistant\n", ""),
        ("[/INST][THINK]", "[THINK]\n"),
        ("", ""),
    ],
)
def test_the_mark_that_a_prompt_ends_in_is_found(prompt: str, mark: str) -> None:
    assert opened_by(prompt) == mark


@pytest.mark.parametrize(
    ("mark", "end"),
    [
        ("<think>", "</think>"),
        ('<think a="b">', "</think>"),
        ("<seed:think>", "</seed:think>"),
        ("[THINK]", "[/THINK]"),
        ("◁think▷", "◁/think▷"),
        ("<|begin_of_thought|>", "<|end_of_thought|>"),
        ("<|START_THINKING|>", "<|END_THINKING|>"),
        ("<|thinking|>", "<|/thinking|>"),
    ],
)
def test_a_mark_has_one_that_ends_its_thought(mark: str, end: str) -> None:
    assert closing(mark) == end
    assert is_mark(mark) and is_mark(end)
    assert not is_mark("<|im_end|>")
