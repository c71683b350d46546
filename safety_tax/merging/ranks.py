"""Entries of a tensor by the rank of their magnitude, without a place in memory for each of them."""

import numpy as np
from numpy.typing import NDArray

from safety_tax.core.arrays import Float32, blocks


def ranked(delta: Float32, first: int, stop: int) -> NDArray[np.bool_]:
    """Which entries have a rank from `first` to before `stop`, by rising magnitude; flat.

    Equal ones are ranked by their place, as in a stable sort. NumPy's `argpartition` picks others with other processor
    instructions, and takes three times the tensor's memory where this takes its copy and the mask.
    """
    flat = delta.reshape(-1)
    size = np.abs(flat)
    size.partition([first, stop - 1] if stop < size.size else first)
    low, high = size[first], size[stop - 1] if stop < size.size else np.float32(np.inf)
    skipped = first - int(np.count_nonzero(size[:first] < low))  # of those that equal `low`
    taken = stop - int(np.count_nonzero(size[: stop - 1] < high))  # of those that equal `high`
    del size
    mask = np.empty(flat.size, np.bool_)
    for block in blocks(flat.size):
        part = np.abs(flat[block])
        np.logical_and(part >= low, part <= high, out=mask[block])
    if np.count_nonzero(mask) != stop - first:
        _drop_equals(flat, mask, low, slice(skipped, None))
        _drop_equals(flat, mask, high, slice(taken))
    return mask


def _drop_equals(flat: Float32, mask: NDArray[np.bool_], value: np.float32, kept: slice) -> None:
    """Of the entries of one magnitude, leave only those in the mask whose number among them is in `kept`."""
    seen = 0
    for block in blocks(flat.size):
        equal = np.flatnonzero(np.abs(flat[block]) == value)
        number = seen + np.arange(equal.size)
        dropped = number < kept.start if kept.start is not None else number >= kept.stop
        mask[block][equal[dropped]] = False
        seen += equal.size
