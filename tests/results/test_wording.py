"""A change between two revisions in words: points or bits, signs, and p-values."""

from typing import Any

import pytest

from safety_tax.results.comparison.items import Change
from safety_tax.results.comparison.wording import difference, differs_as_shown, number, p_value, sentence
from safety_tax.results.statistics.paired import PairedDifference


def change(rate: str = "safety", before: float = 0.5, after: float = 0.44, **more: Any) -> Change:
    """A change of `ties` with limits a tenth around it."""
    moved = after - before
    of = PairedDifference(moved, 0.0, moved - 0.1, moved + 0.1, 100, 0.1)
    about: dict[str, Any] = {"up": [], "down": [], "p": 0.5, "p_holm": 0.5, "beyond_noise": False, "unpaired": 0}
    return Change("ties", rate, before, after, of, **about | more)


def test_rates_are_points_of_100_and_bits_are_bits() -> None:
    assert number(change(), 0.44) == "44.0"
    assert number(change(), 0.44, "+") == "+44.0"
    assert number(change("bits_per_byte"), 1.8414) == "1.841"


def test_a_difference_has_its_sign_and_its_limits() -> None:
    assert difference(change()) == "-6.0 [-16.0, 4.0]"
    assert difference(change(after=0.56)) == "+6.0 [-4.0, 16.0]"
    assert difference(change("bits_per_byte", 1.6, 1.84)) == "+0.240 [0.140, 0.340]"


@pytest.mark.parametrize(
    ("p", "shown"), [(None, ""), (0.5, "0.500"), (0.001, "0.001"), (0.00099, "<0.001"), (1.0, "1.000")]
)
def test_a_p_value_has_three_places(p: float | None, shown: str) -> None:
    assert p_value(change(p_holm=p)) == shown


def test_a_sentence_says_which_way_and_by_how_much() -> None:
    assert sentence(change()) == "safety of ties fell by 6.0 points"
    assert sentence(change(after=0.56)) == "safety of ties rose by 6.0 points"
    assert sentence(change("bits_per_byte", 1.6, 1.84)) == "bits_per_byte of ties rose by 0.240 bits"


def test_what_a_person_sees_as_one_number_does_not_differ() -> None:
    assert not differs_as_shown(change(before=0.5001, after=0.5004))
    assert differs_as_shown(change(before=0.5004, after=0.5006))
    assert not differs_as_shown(change("bits_per_byte", 1.6001, 1.6004))
