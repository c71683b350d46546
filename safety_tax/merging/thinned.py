"""Which entries of a task vector are left out, and how the rest is combined: a sum, or a mean of the elected sign."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safety_tax.core.arrays import BLOCK, Float32, by_blocks
from safety_tax.merging.ranks import ranked
from safety_tax.merging.updates import Update, generator


def largest(delta: Float32, density: float) -> NDArray[np.bool_] | None:
    """Which entries are the `int(density · n)` of largest magnitude in the tensor, flat; None for all.

    At least one entry stays. Of those that tie with the smallest kept one, the last in the tensor stay.
    """
    kept = max(1, int(density * delta.size))
    if kept >= delta.size:
        return None
    return ranked(delta, delta.size - kept, delta.size)


def middle(delta: Float32, density: float, gamma: float) -> NDArray[np.bool_]:
    """Which entries stay, flat: neither in the top `gamma` share by magnitude nor below the `density` share under it.

    Where both cannot be had, fewer outliers go, as in mergekit: `density` is kept. In a tensor so small that
    `density` is less than an entry of it, none stays, as in mergekit.
    """
    kept = int(density * delta.size)
    if not kept:
        return np.zeros(delta.size, np.bool_)
    top = min(int(gamma * delta.size), delta.size - kept)
    return ranked(delta, delta.size - top - kept, delta.size - top)


@dataclass(frozen=True)
class Thinned:
    """A task vector of which only the `kept` entries count, divided by `divisor`; None keeps all."""

    weight: float
    delta: Float32
    kept: NDArray[np.bool_] | None = None
    divisor: float = 1.0

    def part(self, block: slice) -> Float32:
        """A slice of the flat tensor."""
        values: Float32 = self.delta.reshape(-1)[block]
        if self.divisor != 1:
            values = values / np.float32(self.divisor)
        # A product with the mask: `where` takes ten times as long, since no processor foresees where it is true.
        return values if self.kept is None else values * self.kept.reshape(-1)[block]


def drop(update: Update, density: float, seed: int, name: str) -> Thinned:
    """Keep each entry with probability `density`, divided by `density`."""
    drawn = generator(seed, update.place, name).random(update.delta.shape, dtype=np.float32)
    return Thinned(update.weight, update.delta, drawn < density, density)


def magnitude_drop(update: Update, density: float, epsilon: float, seed: int, name: str) -> Float32:
    """Keep the entry of rank r among the n of its row, by rising magnitude from 0, with probability
    p = density − epsilon + 2 epsilon · r / (n − 1); divide it by p."""
    if density == 1:
        return update.delta
    rows = update.delta.reshape(-1, update.delta.shape[-1])
    dropped = np.empty_like(rows)
    random = generator(seed, update.place, name)
    step = max(1, BLOCK // rows.shape[1])
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        ranks = np.argsort(np.argsort(np.abs(part), axis=1, kind="stable"), axis=1, kind="stable")
        share = ranks / max(1, rows.shape[1] - 1)
        kept_share = ((density - epsilon) + share * (2 * epsilon)).astype(np.float32)
        kept = random.random(part.shape, dtype=np.float32) < kept_share
        dropped[start : start + step] = np.where(kept, part / kept_share, np.float32(0))
    return dropped.reshape(update.delta.shape)


def thinned_sum(vectors: list[Thinned], scale: float) -> Float32:
    """scale · Σ wᵢ δᵢ over the kept entries."""

    def part(block: slice) -> Float32:
        total = np.zeros(block.stop - block.start, np.float32)
        for vector in vectors:
            total += np.float32(vector.weight) * vector.part(block)
        return np.float32(scale) * total

    return by_blocks(vectors[0].delta, part)


def elected_mean(vectors: list[Thinned], scale: float, normalize: bool) -> Float32:
    """Per entry, scale times the weighted mean of the vectors whose sign is elected (Yadav et al. 2023, section 3).

    Elected is the sign of Σ wᵢ δᵢ, plus where it is zero. Divided by the weights of those that agree (unless not
    to `normalize`); where none does, the entry is 0.
    """

    def part(block: slice) -> Float32:
        weighed: list[tuple[np.float32, Float32]] = [(np.float32(v.weight), v.part(block)) for v in vectors]
        elected = np.zeros(block.stop - block.start, np.float32)
        for weight, delta in weighed:
            elected += weight * delta
        plus = elected >= 0
        minus = ~plus
        total = np.zeros_like(elected)
        divisor = np.zeros_like(elected)
        for weight, delta in weighed:
            up, down = (plus, minus) if weight >= 0 else (minus, plus)
            agrees = ((delta > 0) & up) | ((delta < 0) & down)
            total += weight * delta * agrees
            divisor += weight * agrees
        if normalize:
            total /= divisor + (divisor == 0)
        total *= np.float32(scale)
        return total

    return by_blocks(vectors[0].delta, part)
