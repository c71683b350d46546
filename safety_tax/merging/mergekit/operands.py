"""What one tensor of a result is merged from, read in float32."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from safety_tax.core.arrays import Float32, by_blocks
from safety_tax.core.tensor_files import Tensor
from safety_tax.merging.updates import Update


class Operands(NamedTuple):
    """What one tensor is merged from."""

    name: str
    """In the result: random numbers depend on it, and on the seed."""
    tensors: list[Tensor]
    """Of any float type, of one shape."""
    base: int | None
    """Which of them is the base's."""
    shared: Mapping[str, Any]
    own: Sequence[Mapping[str, Any]]
    """Parameters of each tensor; the base has those of a method that weighs it, too."""
    seed: int

    def others(self) -> list[int]:
        """The places of those that are not the base's."""
        return [place for place in range(len(self.tensors)) if place != self.base]

    def part(self, place: int, block: slice) -> Float32:
        """A slice of one flat tensor, in float32."""
        values: Float32 = self.tensors[place].reshape(-1)[block].astype(np.float32)
        return values

    def of_base(self) -> Tensor:
        """The base's tensor."""
        assert self.base is not None
        return self.tensors[self.base]

    def update(self, place: int) -> Update:
        """δ of one tensor with its weight."""
        assert self.base is not None
        base = self.base
        like = np.broadcast_to(np.float32(0), self.tensors[place].shape)
        delta = by_blocks(like, lambda block: self.part(place, block) - self.part(base, block))
        return Update(str(place), self.others().index(place), self.own[place].get("weight", 1.0), delta)

    def over_base(self, change: Float32) -> Float32:
        """W0 + change."""
        assert self.base is not None
        base, flat = self.base, change.reshape(-1)
        return by_blocks(change, lambda block: self.part(base, block) + flat[block])

    def combined(self, shares: Mapping[int, float]) -> Float32:
        """Σ share · x over the places named."""

        def part(block: slice) -> Float32:
            total = np.zeros(block.stop - block.start, np.float32)
            for place, share in shares.items():
                total += np.float32(share) * self.part(place, block)
            return total

        return by_blocks(np.broadcast_to(np.float32(0), self.tensors[0].shape), part)
