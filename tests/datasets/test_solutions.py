"""A solution of GSM8K's kind as a problem: what is shown of it, and the number that is right."""

import pytest

from safety_tax.core.errors import PipelineError
from safety_tax.datasets.item import Item
from safety_tax.datasets.solutions import problem


def test_a_calculators_lines_are_not_shown() -> None:
    found = problem("gsm8k", " How many eggs? \n", "3 nests of 4: 3*4=<<3*4=12>>12 eggs.\n#### 12\n")
    assert found == Item(
        group="gsm8k", text="How many eggs?", answer="12", solution="3 nests of 4: 3*4=12 eggs.\n#### 12"
    )


@pytest.mark.parametrize(
    ("end", "answer"),
    [
        ("#### 1,234,567", "1234567"),
        ("#### -3", "-3"),
        ("#### 144.0", "144.0"),
        ("#### 1 #### 2", "2"),
        ("####7", "7"),
    ],
)
def test_the_answer_is_the_number_after_the_last_mark(end: str, answer: str) -> None:
    assert problem("gsm8k", "How many?", f"It is so.\n{end}").answer == answer


@pytest.mark.parametrize(
    ("solution", "found"),
    [
        ("It is 4.", "''"),  # no mark: a number elsewhere is not taken
        ("It is so. #### four", "'four'"),
        ("#### ", "''"),
        ("#### NaN", "'NaN'"),
        ("#### Infinity", "'Infinity'"),
        ("#### 1/2", "'1/2'"),
    ],
)
def test_a_solution_without_a_number_is_named_with_its_question(solution: str, found: str) -> None:
    with pytest.raises(PipelineError) as raised:
        problem("gsm8k", "How many eggs?", solution)
    assert str(raised.value) == (
        f"Expected a number after '####' in each solution of gsm8k, found {found} for 'How many eggs?'; the dataset "
        "has changed: use the commit or version that this project shipped with."
    )
