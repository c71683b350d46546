"""Lines of equal tax: where they leave their panel, and which are left out for want of room."""

import math

import pytest

from safety_tax.results.iso_tax import LABEL, TAXES, TaxLine, lines_of_equal_tax, padded

ACROSS, UP = (-10.0, 50.0), (-50.0, 10.0)
LARGE, SMALL = (6.0, 6.0), (0.9, 0.9)  # inches: a tenth of one for each point, and hardly a label's length


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0, 100], (-6, 106)),  # 6 % on each side
        ([3, -7, 2], (-7.6, 3.6)),
        ([0, 8], (-0.5, 8.5)),  # half a point at least
        ([0, 4], (-0.5, 4.5)),
        ([1], (-1.5, 3.5)),  # five points wide at least
        ([0, 2], (-1.5, 3.5)),
    ],
)
def test_limits_have_room_around_the_values(values: list[float], expected: tuple[float, float]) -> None:
    assert padded(values) == pytest.approx(expected)


def test_a_line_ends_where_it_leaves_the_panel() -> None:
    ends = {line.tax: line.end for line in lines_of_equal_tax(ACROSS, UP, 0.5, LARGE)}
    assert ends[0.5] == (50, -25)  # on the right
    assert ends[1.0] == (50, -50)  # in the corner
    assert ends[2.0] == (25, -50)  # at the bottom
    assert ends[0.1] == pytest.approx((50, -5))
    assert ends[10.0] == (5, -50)


def test_the_price_comes_first_and_what_has_no_room_for_its_label_is_left_out() -> None:
    # The label of 0.02 would be .089 inches below the line of no loss, that of 0.05 is .222.
    found = [line.tax for line in lines_of_equal_tax(ACROSS, UP, 0.5, LARGE)]
    assert found == [0.5, 0.05, 0.1, 0.2, 1.0, 2.0, 5.0, 10.0]
    # Twice a label's length is longer than the panel's diagonal to the corner.
    assert math.hypot(50, 50) * 0.9 / 60 < 2 * LABEL
    assert lines_of_equal_tax(ACROSS, UP, 0.5, SMALL) == [TaxLine(0.5, (50, -25))]


def test_a_price_beside_a_usual_tax_takes_its_room() -> None:
    found = [line.tax for line in lines_of_equal_tax(ACROSS, UP, 0.51, LARGE)]
    assert found[0] == 0.51 and 0.5 not in found
    assert set(found[1:]) <= set(TAXES)


def test_the_price_is_drawn_however_little_room_there_is() -> None:
    for price in (1e-6, 1e6):
        (first, *_) = lines_of_equal_tax(ACROSS, UP, price, LARGE)
        assert first.tax == price
        assert first.end == pytest.approx((min(50, 50 / price), -min(50 * price, 50)))
