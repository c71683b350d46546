"""What a merge method works on."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from safety_tax.core.arrays import Float32, by_blocks
from safety_tax.donors.tensor_names import layer_of
from safety_tax.merging.curvature import Curvature
from safety_tax.merging.importance import Importance


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
    deltas: Mapping[str, Float32] = field(default_factory=dict)
    """Task vectors of this tensor, of every donor that the recipe reads, whatever its weight."""
    importance: Importance | None = None
    notes: dict[str, float] = field(default_factory=dict)
    """Of a method that judges layers, `judged layers` and `changed layers`, whose share `merge.json` has."""


def is_layer_matrix(name: str, delta: Float32) -> bool:
    """Whether it is a linear layer's weight, [out, in], inside a decoder layer."""
    return delta.ndim == 2 and layer_of(name) is not None


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
