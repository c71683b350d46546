"""The cosine of two tensors, worked out by hand and by NumPy."""

import ml_dtypes
import numpy as np
import pytest

from safety_tax.merging.angles import SUMMED, cosine


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ([1, 0], [0, 2], 0),
        ([3, 4], [3, 4], 1),
        ([3, 4], [-6, -8], -1),
        ([1, 0], [1, 1], 0.5**0.5),
        ([3, 4], [4, 3], 24 / 25),
        ([0, 0], [1, 1], 0),  # no direction
        ([0, 0], [0, 0], 0),
        ([[1, 2], [3, 4]], [[4, 3], [2, 1]], 20 / 30),  # a matrix is one vector
    ],
)
def test_a_cosine_by_hand(one: list[float], other: list[float], expected: float) -> None:
    found = cosine(np.array(one, np.float32), np.array(other, np.float32))
    assert found == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_neither_large_nor_small_numbers_lose_their_angle(size: float) -> None:
    """Their squares are beyond float32."""
    one, other = np.array([3, 4], np.float32) * np.float32(size), np.array([4, 3], np.float32) * np.float32(size)
    assert cosine(one, other) == pytest.approx(24 / 25, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_summed_in_double(dtype: type) -> None:
    # 5,000 ones would end at 2,048 (float16) or 256 (bfloat16), were they summed in their own type.
    ones = np.ones(5_000, dtype)
    assert cosine(ones, ones) == 1
    half = np.concatenate([np.ones(2_500), -np.ones(2_500)]).astype(dtype)
    assert cosine(ones, half) == 0


def test_a_tensor_of_several_blocks_is_one_vector() -> None:
    draw = np.random.default_rng(0).standard_normal((2, SUMMED + 3), np.float32)
    one, other = (row.astype(np.float64) for row in draw)
    expected = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
    assert cosine(*draw) == pytest.approx(expected, rel=1e-9)
    assert cosine(draw[0], draw[0]) == pytest.approx(1, rel=1e-12)
