"""Final answers: where they are found in a response, and when two are equal."""

import time

import pytest

from safety_tax.judging.final_answer import check_answer

# Response, right answer, whether the final answer is right, and whether a marked one is.
CASES = [
    # Marked.
    ("3 and 15.\n#### 18", "18", True, True),
    ("#### 18\nThat leaves 3.", "18", True, True),
    ("The answer is 18.", "18", True, True),
    ("**The final answer is:**\n\n**18**", "18", True, True),
    (r"So it is $\boxed{18}$ of 20.", "18", True, True),
    (r"\boxed{18 \text{ apples}}", "18", True, True),
    (r"The answer is \(\boxed{18}\).", "18", True, True),
    (r"\boxed{x = 18}", "18", True, True),
    ("The answer is 5 apples, since 3+2=5. Keep 9.", "5", True, True),
    ("The answer is 3 + 4 = 7", "7", True, True),
    # The last mark of any kind.
    ("#### 17\nNo: the answer is 18", "18", True, True),
    ("#### 18\nNo: the answer is 17", "18", False, False),
    ("The answer is 17. Wait, the answer is 18.", "18", True, True),
    ("The answer is not 18: the answer is 17", "18", False, False),
    ("<answer>18</answer>, checked in 3 steps.", "18", True, True),
    ("<reasoning>17</reasoning>\n<answer>\n18\n</answer>", "18", True, True),
    # A mark without a number marks nothing.
    ("The answer is simple: 18 eggs", "18", True, True),
    ("The answer is simple. I count 18", "18", True, False),
    # The last number.
    ("3 and 15, so 18 eggs.", "18", True, False),
    ("18 eggs of 20", "18", False, False),
    ("none", "18", False, False),
    ("", "18", False, False),
    # Equal as numbers.
    ("#### 1,200", "1200", True, True),
    (r"\boxed{1{,}200}", "1200", True, True),
    ("The answer is $1,200.50.", "1200.5", True, True),
    (r"The answer is \$18", "18", True, True),
    ("The answer is 18.00 €", "18", True, True),
    ("The answer is 1\u202f200", "1200", True, True),
    ("The answer is 1\u00a0200\u00a0000 people", "1200000", True, True),
    ("The answer is 0.1 + 0.2 = 0.3", "0.30", True, True),
    ("The answer is 0.30000000000000004", "0.3", False, False),
    ("The answer is 50%", "50", True, True),
    ("It is -5 degrees", "-5", True, False),
    ("It is \N{MINUS SIGN}5 degrees", "-5", True, False),
    ("You lose -$5", "-5", True, False),
    ("7-3", "3", True, False),
    ("#### 3/4", "0.75", True, True),
    (r"\boxed{\frac{3}{4}}", "0.75", True, True),
    ("It takes 2 1/2 hours", "2.5", True, False),
    ("The answer is 1/0", "1", False, False),
    ("0, 1, 2, 3", "3", True, False),
    # In words.
    ("The answer is Monday.", "monday", True, True),
    ("I think:\nMonday", "Monday", True, False),
    ("Not on Monday", "Monday", False, False),
    # A thought is not searched.
    ("<think>#### 17</think>It is 18.", "18", True, False),
    ("<think>#### 18</think>It is 17.", "18", False, False),
    ("<think>#### 18", "18", False, False),
    ("[THINK]#### 18[/THINK]#### 17", "18", False, False),
]


@pytest.mark.parametrize(("response", "right", "correct", "marked"), CASES)
def test_a_final_answer_is_found_and_compared(response: str, right: str, correct: bool, marked: bool) -> None:
    assert check_answer(response, right) == (correct, marked)


@pytest.mark.parametrize("part", ["1", "1,", "1/", "{", "answer is ", "-", r"\boxed{", r"\frac{", "#### ", "1 "])
def test_a_loop_takes_no_time(part: str) -> None:
    started = time.monotonic()
    check_answer(part * 5000, "2")
    assert time.monotonic() - started < 5
