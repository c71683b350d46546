"""Arithmetic on float32 tensors in blocks, so that temporaries never reach the tensor's size."""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
BLOCK = 1 << 16  # elements: a few blocks at once stay in the processor's cache


def blocks(size: int, length: int = BLOCK) -> Iterable[slice]:
    """Slices of `length` elements, the last one shorter, that cover a flat tensor of `size` elements."""
    return (slice(start, min(start + length, size)) for start in range(0, size, length))


def by_blocks(tensor: Float32, function: Callable[[slice], Float32]) -> Float32:
    """A tensor of the same shape, made by an elementwise function of flat slices."""
    result = np.empty(tensor.size, np.float32)
    for block in blocks(tensor.size):
        result[block] = function(block)
    return result.reshape(tensor.shape)
