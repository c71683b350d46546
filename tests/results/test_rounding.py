"""Six significant digits of every float, whatever holds it; all else as it was."""

import json
import math

import pytest

from safety_tax.results.rounding import significant


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (1 / 3, "0.333333"),
        (2 / 3 * 1e-9, "6.66667e-10"),
        (123456789.0, "123457000.0"),
        (0.1 + 0.2, "0.3"),
        (-1.5, "-1.5"),
        (-0.0, "0.0"),
        (-1e-300, "-1e-300"),
        (7.0, "7.0"),
    ],
)
def test_a_float_keeps_six_digits(value: float, written: str) -> None:
    assert json.dumps(significant(value)) == written


def test_floats_are_found_wherever_they_stand_and_nothing_else_changes() -> None:
    value = {"a": [1 / 3, (2 / 3, None)], "b": {"n": 12345678, "yes": True, "text": "0.3333333333"}, "c": []}
    assert significant(value) == {
        "a": [0.333333, [0.666667, None]],
        "b": {"n": 12345678, "yes": True, "text": "0.3333333333"},
        "c": [],
    }
    assert significant(True) is True
    assert value["a"][0] == 1 / 3  # a copy: what was given keeps its digits


def test_the_last_bits_of_a_sum_are_no_difference() -> None:
    summands = [0.1, 0.7, -0.3, 1e-3, 0.2] * 99
    assert sum(summands) != math.fsum(summands)
    assert significant(sum(summands)) == significant(math.fsum(summands))
