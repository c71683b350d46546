"""Damaged inputs: a result or one sentence, the same every time, soon. `tests.benchmarks.fuzz` runs more of them."""

import random
import time
from pathlib import Path
from typing import get_args

import pytest
from fuzzing import TARGETS, damaged, outcome, rules_judge, seeds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safety_tax.core.rows import Label
from safety_tax.judging.rules import judge

SECONDS_PER_INPUT = 2.0  # of processor time: thousands of times what one takes
DAMAGED = {"params": 25, "gguf": 400, "wheel": 250}
NEVER_REFUSE = ("rows", "hub_files", "guard_output", "rules_judge")


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_input_is_read_or_refused(name: str, tmp_path: Path) -> None:
    chance = random.Random(name)
    target = TARGETS[name]
    came = {"read": 0, "refused": 0}
    sound = seeds(tmp_path)[name]
    for number in range(DAMAGED.get(name, 500)):
        data = damaged(chance.choice(sound), chance)
        started = time.process_time()
        first = outcome(target, data, tmp_path)
        assert time.process_time() - started < SECONDS_PER_INPUT, data[:200]
        if number % 10 == 0:
            assert outcome(target, data, tmp_path) == first
        came[first[0]] += 1
    # Targets that return None or an empty list for what they cannot read never refuse.
    assert sum(came.values()) and (came["refused"] or name in NEVER_REFUSE)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=400))
@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_are_read_or_refused(name: str, data: bytes, tmp_path: Path) -> None:
    outcome(TARGETS[name], data, tmp_path)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=st.text(st.characters(), max_size=300), length=st.booleans())
def test_the_rules_judge_labels_any_text_and_the_same_twice(text: str, length: bool) -> None:
    reason = "length" if length else "stop"
    found = judge(text, reason)
    assert found.label in get_args(Label)
    assert judge(text, reason) == found


LONG = {
    "one letter": "a",
    "spaces": "a" + " " * 99,
    "quotes": "\"'",
    "subjects": "I ",
    "negations": "I cannot ",
    "apologies": "I'm sorry, but ",
    "sentences": "I can. ",
    "hedges": "as an AI language model, ",
    "items": "1. 2) ",
    "lines": "a\n",
    "parentheses": "((",
    "dashes": "- * - ",
    "conjunctions": "it is not and or but because ",
    "marks": ".!?",
    "combining": "e\u0301",
    "wide": "\ufdfa",
}


@pytest.mark.parametrize("piece", LONG.values(), ids=LONG)
def test_the_rules_judge_takes_no_longer_for_a_longer_text(piece: str, tmp_path: Path) -> None:
    for before in ("", "This is an ordinary beginning of an answer. "):
        data = (before + piece * (100_000 // len(piece))).encode()
        started = time.process_time()
        rules_judge(data, tmp_path)
        assert time.process_time() - started < 0.5  # it takes a few milliseconds
