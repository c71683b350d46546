"""Which items run together, and how token lists become right-padded arrays."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Int64 = NDArray[np.int64]


# A batch may hold so large a share of padding, and the tokens that one more pass would cost anyway.
PADDING_SHARE, PASS_TOKENS = 0.1, 24


def plan(lengths: Sequence[int], extra: int, tokens_per_batch: int, rows_per_batch: int) -> list[list[int]]:
    """Group items, longest first, so that rows · (longest + extra) stays within the token budget.

    A batch also ends where shorter items would be mostly padding. Longest first: a budget that is too large
    fails at once and not at the end. An item that exceeds the budget alone still runs, alone.
    """
    order = sorted(range(len(lengths)), key=lambda item: (-lengths[item], item))
    batches: list[list[int]] = []
    longest = padding = 0
    for item in order:
        length = lengths[item]
        rows = len(batches[-1]) + 1 if batches else 0
        fits = rows and rows <= rows_per_batch and rows * (longest + extra) <= tokens_per_batch
        if not fits or padding + longest - length > PADDING_SHARE * rows * longest + PASS_TOKENS:
            batches.append([])
            longest, padding = length, 0
        batches[-1].append(item)
        padding += longest - length
    return batches


def slices(batch: Sequence[int], parts: int) -> Iterator[Sequence[int]]:
    """A batch in at most `parts` parts of equal size, as far as it has so many items."""
    size = max(1, -(-len(batch) // parts))
    for start in range(0, len(batch), size):
        yield batch[start : start + size]


def right_padded(rows: Sequence[Sequence[int]], fill: int = 0, width: int = 0) -> tuple[Int64, Int64]:
    """Rows as one array [rows, longest, or `width` if that is more], and its mask: 1 where a token is."""
    width = max(width, *(len(row) for row in rows))
    values = np.full((len(rows), width), fill, np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    for index, row in enumerate(rows):
        values[index, : len(row)] = row
        mask[index, : len(row)] = 1
    return values, mask


def shared_length(one: Sequence[int], other: Sequence[int]) -> int:
    """Number of leading tokens that both have."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))


def common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """Number of leading tokens that all rows share."""
    # In the order of lists, what the first and the last share, all share.
    shortest, longest = min(map(list, rows)), max(map(list, rows))
    return shared_length(shortest, longest)
