"""What a merge method works on, and arithmetic in blocks so that temporaries never reach the tensor's size."""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from safety_tax.merging.curvature import Curvature

Float32 = NDArray[np.float32]
BLOCK = 1 << 16  # elements: a few blocks at once stay in the processor's cache
LAYER = re.compile(r"\.layers\.(\d+)\.")


class Update(NamedTuple):
    """One donor's task vector of one tensor."""

    donor: str
    place: int
    """Among the recipe's donors, by name."""
    weight: float
    delta: Float32


@dataclass(frozen=True)
class Target:
    """The tensor that is merged."""

    name: str
    total_weight: float
    """Of all donors, also of those that leave this tensor alone."""
    curvature: Curvature | None = None


def layer_of(name: str) -> int | None:
    """Number of the layer that a tensor belongs to; None for embeddings, last norm and head."""
    found = LAYER.search(name)
    return int(found[1]) if found else None


def is_layer_matrix(name: str, delta: Float32) -> bool:
    """Whether it is a linear layer's weight, [out, in], inside a decoder layer."""
    return delta.ndim == 2 and layer_of(name) is not None


def blocks(size: int, length: int = BLOCK) -> Iterable[slice]:
    """Slices of `length` elements, the last one shorter, that cover a flat tensor of `size` elements."""
    return (slice(start, min(start + length, size)) for start in range(0, size, length))


def by_blocks(tensor: Float32, function: Callable[[slice], Float32]) -> Float32:
    """A tensor of the same shape, made by an elementwise function of flat slices."""
    result = np.empty(tensor.size, np.float32)
    for block in blocks(tensor.size):
        result[block] = function(block)
    return result.reshape(tensor.shape)


def weighted_sum(updates: Sequence[Update], scale: float = 1.0) -> Float32:
    """scale · Σ wᵢ δᵢ."""
    flat = [(np.float32(update.weight), update.delta.reshape(-1)) for update in updates]

    def part(block: slice) -> Float32:
        total = np.zeros(block.stop - block.start, np.float32)
        for weight, delta in flat:
            total += weight * delta[block]
        return np.float32(scale) * total

    return by_blocks(updates[0].delta, part)


def generator(seed: int, place: int, name: str) -> np.random.Generator:
    """Random numbers that depend on seed, donor's place and tensor name alone."""
    digest = hashlib.sha256(f"{seed}\x1f{place}\x1f{name}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16])))
