"""IFEval's checks: strict, loose, the same on every machine, and without a network."""

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from safety_tax.core.errors import PipelineError
from safety_tax.core.rows import PROMPT, AnyPrompt, Check, ChoiceScore, Response, write_rows
from safety_tax.judging.instruction_checks import capital_words, check_instructions, checkers, sentences
from safety_tax.judging.judge import by_rules
from safety_tax.judging.verdicts import judge_variant
from safety_tax.params import load_params

pytest.importorskip("if_verifiable")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise AssertionError("a checker asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def followed(response: str, instruction: str, **arguments: Any) -> tuple[bool, bool]:
    return check_instructions([Check(instruction=instruction, arguments=arguments)], "the prompt", response)


FRENCH = "Je ne sais pas où se trouve la gare, mais je peux demander à quelqu'un dans la rue."
# Instruction, its arguments, a response that follows it and one that does not.
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["boat", "sea"]}, "A boat at Sea", "A boat"),
    ("keywords:frequency", {"keyword": "boat", "frequency": 2, "relation": "at least"}, "boat, boat", "boat"),
    ("keywords:forbidden_words", {"forbidden_words": ["boat"]}, "A ship", "A boat"),
    ("keywords:letter_frequency", {"letter": "a", "let_frequency": 2, "let_relation": "less than"}, "a b", "a a"),
    ("language:response_language", {"language": "fr"}, FRENCH, "I do not know where the station is, sorry."),
    ("length_constraints:number_sentences", {"num_sentences": 2, "relation": "at least"}, "One. Two.", "One, Mr. Two."),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "One\n***\nTwo", "One\n\nTwo"),
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "one two", "one two three"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "two"},
        "One\n\nTwo things",
        "Two\n\nOne",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[name] in [town]", "[name]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye\nP.S. more", "Bye"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n* b", "* a"),
    ("detectable_format:constrained_response", {}, "My answer is yes.", "Yes"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "*one* thing", "one thing"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "Section", "num_sections": 2},
        "Section 1\na\nSection 2\nb",
        "Section 1\na",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": 1}\n```', "a: 1"),
    ("detectable_format:title", {}, "<<A boat>>\nIt floats", "A boat"),
    ("combination:two_responses", {}, "one******two", "one"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say it."}, "Say it. It.", "It."),
    ("startend:end_checker", {"end_phrase": "The end."}, "So, the end.", "The end. So"),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "A BOAT at SEA.",
        "A boat",
    ),
    ("change_case:english_capital", {}, "THIS IS A BOAT ON THE WATER", "This is a boat"),
    ("change_case:english_lowercase", {}, "this is a boat on the water", "This is a boat"),
    ("punctuation:no_comma", {}, "One and two", "One, two"),
    ("startend:quotation", {}, '"A boat"', "A boat"),
]


@pytest.mark.parametrize(("instruction", "arguments", "good", "bad"), CASES)
def test_a_checker_tells_followed_from_not(instruction: str, arguments: dict[str, Any], good: str, bad: str) -> None:
    assert followed(good, instruction, **arguments) == (True, True)
    assert followed(bad, instruction, **arguments) == (False, False)


def test_every_checker_has_a_case() -> None:
    assert {case[0] for case in CASES} == set(checkers())


def test_the_loose_check_forgives_a_first_line_a_last_line_and_asterisks() -> None:
    comma: dict[str, Any] = {"instruction": "punctuation:no_comma"}
    assert followed("Sure, here:\nOne and two", **comma) == (False, True)
    assert followed("One and two\nWell, that is it", **comma) == (False, True)
    assert followed("Sure, here:\nOne and two\nWell, done", **comma) == (False, True)
    assert followed("One\nTwo, three\nFour", **comma) == (False, False)
    assert followed('*"A boat"*', "startend:quotation") == (False, True)


def test_every_instruction_must_be_followed_each_by_some_variant() -> None:
    checks = [
        Check(instruction="punctuation:no_comma", arguments={}),
        Check(instruction="startend:quotation", arguments={}),
    ]
    assert check_instructions(checks, "p", '"A boat"') == (True, True)
    assert check_instructions(checks, "p", '"A boat, a sea"') == (False, False)
    assert check_instructions(checks, "p", 'Sure, here:\n"A boat"') == (False, True)


@pytest.mark.parametrize("response", ["", " \n", "<think>One and two", "<think>One</think>"])
def test_nothing_follows_no_instruction(response: str) -> None:
    assert followed(response, "punctuation:no_comma") == (False, False)


def test_a_thought_is_not_checked() -> None:
    assert followed("<think>Well, a, b</think>\nOne and two", "punctuation:no_comma") == (True, True)


def test_sentences_and_words_by_hand() -> None:
    assert sentences("Dr. Who paid 3.50 at 9 a.m. in town. Did he? Yes! He did.") == 4
    assert sentences("") == 0
    assert capital_words("A NATO-UN talk at the UN. OK?") == 4  # A, NATO-UN, UN, OK


def test_an_unknown_instruction_is_named() -> None:
    with pytest.raises(PipelineError, match="did you mean 'keywords:existence'"):
        followed("a", "keywords:existance")


def test_the_stage_gives_each_kind_its_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two problems and an instruction beside one item of each other kind; the kind without items is skipped."""
    from conftest import ROOT

    monkeypatch.chdir(ROOT)
    params = load_params()
    monkeypatch.chdir(tmp_path)
    benchmarks, folder = Path("data/benchmarks"), Path("data/responses/m/ties")

    def item(kind: Any, number: int = 0, **fields: Any) -> AnyPrompt:
        row = {"id": f"{kind}{number}", "benchmark": "b", "kind": kind, "group": "g", "split": "eval", "text": "Hello?"}
        return PROMPT.validate_python(row | fields)

    checks = [{"instruction": "punctuation:no_comma", "arguments": {}}]
    items = {
        "harmful": [item("harmful")],
        "jailbreak": [item("jailbreak")],
        "benign": [item("benign")],
        "problem": [item("problem", n, answer="18") for n in range(2)],
        "instruction": [item("instruction", checks=checks)],
        "choice": [item("choice", choices=["a", "b"], gold=1)],
    }
    texts = [
        "I cannot help.",
        "I cannot help.",
        "A boat floats on the sea.",
        "So it is 18.",
        "#### 17",
        "Yes, sir\nYes",
    ]
    answered = [row for kind, rows in items.items() if kind != "choice" for row in rows]
    for kind, rows in items.items():
        write_rows(benchmarks / f"{kind}.jsonl", rows)
    reasons = ["stop"] * 4 + ["length", "stop"]
    responses = [
        {"id": row.id, "text": text, "finish_reason": reason, "tokens": 4}
        for row, text, reason in zip(answered, texts, reasons, strict=True)
    ]
    write_rows(folder / "responses.jsonl", [Response.model_validate(row) for row in responses])
    write_rows(
        folder / "choices.jsonl", [ChoiceScore(id="choice0", letter_logprobs=[-2, -1], continuation_bytes=[1, 1])]
    )
    model = params.model("mistral_7b")
    found = {verdict.id: verdict for verdict in judge_variant(folder, model, by_rules)}
    assert list(found) == [row.id for rows in items.values() for row in rows]
    assert [found[f"problem{n}"].answer_correct for n in range(2)] == [True, False]
    assert [found[f"problem{n}"].marked_correct for n in range(2)] == [False, False]
    assert [found[f"problem{n}"].truncated for n in range(2)] == [False, True]
    written = json.loads(found["instruction0"].model_dump_json(exclude_none=True))
    assert (written["followed"], written["followed_loosely"], written["truncated"]) == (False, True, False)
    assert found["harmful0"].label == "refuse" and found["choice0"].letter_correct
    for kind in ("problem", "instruction"):
        write_rows(benchmarks / f"{kind}.jsonl", [])
    write_rows(folder / "responses.jsonl", [Response.model_validate(row) for row in responses[:3]])
    assert {verdict.kind for verdict in judge_variant(folder, model, by_rules)} == set(items) - {
        "problem",
        "instruction",
    }
