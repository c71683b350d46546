"""What a merge did to the base, as sums over tensors: norms, cosines to the donors, agreement of their signs."""

from collections import defaultdict
from collections.abc import Mapping
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safety_tax.core.arrays import Float32, blocks
from safety_tax.core.errors import PipelineError
from safety_tax.merging.updates import Update

Sums = defaultdict[str, float]


def new_sums() -> Sums:
    """All sums at 0."""
    return defaultdict(float)


def add(total: Sums, part: Sums) -> None:
    """total += part."""
    for key, value in part.items():
        total[key] += value


def dot(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Inner product of two vectors; BLAS would share it among threads, and their number would move its last digits."""
    return float(np.einsum("i,i->", one, other))


def measure(change: Float32, updates: list[Update]) -> Sums:
    """Sums of one tensor, in float64. A donor that has no part in the tensor adds nothing."""
    sums = new_sums()
    flat = change.reshape(-1)
    vectors = {update.donor: update.delta.reshape(-1) for update in updates}
    for block in blocks(flat.size):
        moved = flat[block].astype(np.float64)
        sums["change"] += dot(moved, moved)
        for donor, vector in vectors.items():
            delta = vector[block].astype(np.float64)
            sums[f"square {donor}"] += dot(delta, delta)
            sums[f"dot {donor}"] += dot(moved, delta)
        for one, other in combinations(vectors, 2):
            first, second = vectors[one][block], vectors[other][block]
            both = (first != 0) & (second != 0)
            sums[f"both {one} {other}"] += int(np.count_nonzero(both))
            sums[f"same {one} {other}"] += int(np.count_nonzero(both & (np.signbit(first) == np.signbit(second))))
    return sums


def unlike(
    base: NDArray[Any], change: Float32 | None, deltas: Mapping[str, Float32], donors: list[str], dtype: np.dtype[Any]
) -> Sums:
    """How many weights of one tensor are, in the `dtype` that is written, not those of each donor alone.

    `change` is None where the merge leaves the tensor alone; a donor that does so has no delta.
    """
    sums = new_sums()
    weights = base.reshape(-1)
    for block in blocks(weights.size):
        weight = weights[block].astype(np.float32)
        merged = _written(weight, change, block, dtype)
        for donor in donors:
            alone = _written(weight, deltas.get(donor), block, dtype)
            sums[f"unlike {donor}"] += int(np.count_nonzero(merged != alone))
    return sums


def _written(weight: Float32, delta: Float32 | None, block: slice, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A block of weights with its share of a task vector, where there is one, rounded to `dtype`."""
    moved = weight if delta is None else weight + delta.reshape(-1)[block]
    return moved.astype(dtype, copy=False)


def require_a_merge(sums: Sums, donors: list[str], where: str, remedy: str) -> None:
    """The gate: the result is neither the base nor one of several donors. Raises PipelineError otherwise."""
    if not sums["moved"]:
        raise PipelineError(
            f"Expected the recipe to change the base, found the merged weights equal to it in {where}; {remedy}."
        )
    for donor in donors:
        if len(donors) > 1 and sums[f"unlike {donor}"] == 0:
            raise PipelineError(
                f"Expected a merge of {len(donors)} donors, found the result equal to donor {donor!r} alone; "
                "check the recipe's weights in params.yaml."
            )


def summary(sums: Sums, donors: list[str]) -> dict[str, Any]:
    """The sums as numbers for `merge.json`; a cosine or an agreement that is 0/0 is left out."""
    cosines = {
        d: sums[f"dot {d}"] / (sums["change"] * sums[f"square {d}"]) ** 0.5 for d in donors if sums[f"square {d}"]
    }
    agreement = {
        f"{one}, {other}": sums[f"same {one} {other}"] / sums[f"both {one} {other}"]
        for one, other in combinations(donors, 2)
        if sums[f"both {one} {other}"]
    }
    judged = {"layers_changed": sums["changed layers"] / sums["judged layers"]} if sums["judged layers"] else {}
    return {
        "change_norm": sums["change"] ** 0.5,
        "relative_change": (sums["change"] / sums["base"]) ** 0.5,
        "entries_moved": sums["moved"] / sums["entries"],
        "donor_norm": {donor: sums[f"square {donor}"] ** 0.5 for donor in donors},
        "cosine_to_donor": cosines,
        "sign_agreement": agreement,
        **judged,
    }
