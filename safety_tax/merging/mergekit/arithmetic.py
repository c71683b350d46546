"""mergekit's merge methods on whole tensors, with its parameters and defaults (version 0.1.5, read in its source).

xᵢ are the tensors in the order of the configuration, W0 that of `base_model`, δᵢ = xᵢ − W0. All is computed in float32.
Where this project has a method (`methods/`), its arithmetic is used. mergekit rescales what is left of a task vector
by its L1 norm (`rescale`), which is done so here, too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from safety_tax.core.arrays import Float32, blocks, by_blocks
from safety_tax.core.errors import PipelineError
from safety_tax.merging.angles import PARALLEL, cosine
from safety_tax.merging.measure import dot
from safety_tax.merging.mergekit.operands import Operands
from safety_tax.merging.mergekit.settings import Kind, Value
from safety_tax.merging.ranks import ranked
from safety_tax.merging.thinned import Thinned, drop, elected_mean, largest, magnitude_drop, middle, thinned_sum
from safety_tax.merging.updates import Update

TINY = 1e-6
"""Below it mergekit takes a sum of weights, of variances or a denominator for zero."""


class Parameter(NamedTuple):
    """A parameter's type and default; None for one that must be given."""

    kind: Kind
    default: Value | None = None
    optional: bool = False
    """Whether it may be left out though it has no default."""


@dataclass(frozen=True)
class Method:
    """A merge method of mergekit."""

    name: str
    merge: Callable[[Operands], Float32]
    base: Literal["required", "optional", "ignored"] = "required"
    """`ignored`: a base is one model among the others."""
    shared: Mapping[str, Parameter] = field(default_factory=dict)
    own: Mapping[str, Parameter] = field(default_factory=dict)
    """Of each model; of the base, too, where it is ignored."""
    fewest: int = 1
    most: int = 10**6
    """Models, beside the base where it is not ignored."""


Kept = NDArray[np.bool_] | None
Thinning = Callable[[Operands, Update, Mapping[str, Any]], Kept]


def _largest(operands: Operands, update: Update, own: Mapping[str, Any]) -> Kept:
    return largest(update.delta, own["density"])


def _middle(operands: Operands, update: Update, own: Mapping[str, Any]) -> Kept:
    return middle(update.delta, own["density"], own["gamma"])


def _drawn(operands: Operands, update: Update, own: Mapping[str, Any]) -> Kept:
    return drop(update, own["density"], operands.seed, operands.name).kept


def _by_rank(operands: Operands, update: Update, own: Mapping[str, Any]) -> Kept:
    density, epsilon = own["density"], own["epsilon"]
    if not epsilon < min(density, 1 - density):
        raise PipelineError(
            f"Expected density ± epsilon of {operands.name} inside (0, 1), found {density:g} ± {epsilon:g}; correct "
            "the parameters of the mergekit configuration."
        )
    kept: NDArray[np.bool_] = magnitude_drop(update, density, epsilon, operands.seed, operands.name) != 0
    return kept


def _thinned(operands: Operands, place: int, thinning: Thinning | None) -> Thinned:
    update, own = operands.update(place), operands.own[place]
    density = own["density"]
    if thinning is None or density >= 1:
        return Thinned(update.weight, update.delta)
    if density <= 0:
        return Thinned(0.0, update.delta)
    kept = thinning(operands, update, own)
    vector = Thinned(update.weight, update.delta, kept)
    if not operands.shared["rescale"] or kept is None:
        return vector
    before = after = 0.0
    for block in blocks(update.delta.size):
        before += float(np.abs(update.delta.reshape(-1)[block]).sum(dtype=np.float64))
        after += float(np.abs(vector.part(block)).sum(dtype=np.float64))
    return Thinned(update.weight, update.delta, kept, after / before) if min(before, after) >= 1e-7 else vector


def _task_vectors(thinning: Thinning | None, elected: bool) -> Callable[[Operands], Float32]:
    """W0 + lambda · the (elected) sum of the thinned wᵢ δᵢ, divided by the sum of weights where `normalize` says so."""

    def merge(operands: Operands) -> Float32:
        vectors = [_thinned(operands, place, thinning) for place in operands.others()]
        scale, normalize = operands.shared["lambda"], operands.shared["normalize"]
        if elected:
            return operands.over_base(elected_mean(vectors, scale, normalize))
        total = sum(operands.own[place]["weight"] for place in operands.others())
        return operands.over_base(thinned_sum(vectors, scale / total if normalize and abs(total) >= 1e-8 else scale))

    return merge


def _linear(operands: Operands) -> Float32:
    """Σ wᵢ xᵢ, over Σ wᵢ where `normalize` says so."""
    weights = [own["weight"] for own in operands.own]
    total = sum(weights) if operands.shared["normalize"] else 1.0
    if not total:
        raise PipelineError(
            f"Expected weights of {operands.name} whose sum is not 0, found {weights}; correct the weights of the "
            "mergekit configuration, or set `normalize: false` there."
        )
    return operands.combined({place: weight / total for place, weight in enumerate(weights)})


def _slerp(operands: Operands) -> Float32:
    """From W0 to x along the great circle, the tensors taken as vectors; straight above a cosine of .9995."""
    assert operands.base is not None
    (other,) = operands.others()
    t = operands.shared["t"]
    shares = [1 - t, t]
    angle = float(np.clip(cosine(operands.of_base(), operands.tensors[other]), -1, 1))
    if abs(angle) <= PARALLEL:
        theta = np.arccos(angle)
        shares = [float(np.sin(share * theta) / np.sin(theta)) for share in shares]
    return operands.combined({operands.base: shares[0], other: shares[1]})


def _nuslerp(operands: Operands) -> Float32:
    """Slerp of two models, or of their task vectors, whole or row by row; t = w₂ / (w₁ + w₂)."""
    one, two = operands.others()
    weights = [operands.own[place]["weight"] for place in (one, two)]
    t = 0.5 if abs(sum(weights)) < TINY else weights[1] / sum(weights)
    first, second = (
        operands.tensors[place].astype(np.float32) if operands.base is None else operands.update(place).delta
        for place in (one, two)
    )
    shape = first.shape
    if operands.shared["nuslerp_flatten"]:
        first, second = first.reshape(1, -1), second.reshape(1, -1)
    elif operands.shared["nuslerp_row_wise"]:
        first, second = np.moveaxis(first, 0, -1), np.moveaxis(second, 0, -1)
    length = [np.maximum(np.linalg.norm(side, axis=-1, keepdims=True), 1e-7) for side in (first, second)]
    angle = np.clip(np.sum(first / length[0] * (second / length[1]), axis=-1, keepdims=True, dtype=np.float32), -1, 1)
    straight = 1 - angle**2 <= 1e-16
    theta = np.arccos(np.where(straight, np.float32(0), angle))
    bent = (np.sin((1 - t) * theta) * first + np.sin(t * theta) * second) / np.sin(theta)
    merged = np.where(straight, (1 - t) * first + t * second, bent).astype(np.float32)
    if operands.shared["nuslerp_row_wise"] and not operands.shared["nuslerp_flatten"]:
        merged = np.moveaxis(merged, -1, 0)
    merged = np.ascontiguousarray(merged.reshape(shape))
    return merged if operands.base is None else operands.over_base(merged)


def _model_stock(operands: Operands) -> Float32:
    """W0 + t · mean δᵢ, t = N cos θ / (1 + (N − 1) cos θ), θ the mean angle of the δᵢ (Jang et al. 2024, 2403.19522).

    One angle for the tensor, or one for each row (`filter_wise`).
    """
    deltas = [operands.update(place).delta for place in operands.others()]
    shape, count = deltas[0].shape, len(deltas)
    width = shape[-1] if operands.shared["filter_wise"] else deltas[0].size
    rows = [delta.reshape(-1, width) for delta in deltas]
    norms = [_row_dots(side, side) ** 0.5 for side in rows]
    angles = [
        np.clip(_row_dots(rows[a], rows[b]) / np.maximum(norms[a] * norms[b], TINY), -1, 1)
        for a, b in combinations(range(count), 2)
    ]
    angle = np.mean(angles, axis=0)
    under = 1 + (count - 1) * angle
    t = np.where(np.abs(under) < TINY, 0, count * angle / np.where(np.abs(under) < TINY, 1, under))
    change: Float32 = sum(rows[1:], rows[0].copy())
    change *= (t / count).astype(np.float32)[:, None]
    return operands.over_base(change.reshape(shape))


def _row_dots(one: Float32, other: Float32) -> NDArray[np.float64]:
    """Inner products of the rows, in float64."""
    found = np.zeros(len(one))
    for row in range(len(one)):
        for block in blocks(one.shape[1]):
            found[row] += dot(one[row, block].astype(np.float64), other[row, block].astype(np.float64))
    return found


def _sce(operands: Operands) -> Float32:
    """Select the entries that vary most, weigh models by their squares, erase minorities (Wan et al., 2408.07990)."""
    deltas = [operands.update(place).delta for place in operands.others()]
    share = operands.shared["select_topk"]
    if share < 1:
        kept = _varying(deltas, share)
        deltas = [delta * kept.reshape(delta.shape) for delta in deltas]
    squares = [float(np.mean(np.square(delta, dtype=np.float32), dtype=np.float64)) for delta in deltas]
    total = sum(squares)
    weights = [1 / len(deltas)] * len(deltas) if total < TINY else [square / total for square in squares]
    flat = [delta.reshape(-1) for delta in deltas]

    def part(block: slice) -> Float32:
        plus = np.sum([delta[block] for delta in flat], axis=0, dtype=np.float32) >= 0
        merged = np.zeros(block.stop - block.start, np.float32)
        under = np.zeros_like(merged)
        for weight, delta in zip(weights, flat, strict=True):
            agrees = ((delta[block] > 0) & plus) | ((delta[block] < 0) & ~plus)
            merged += np.float32(weight) * delta[block] * agrees
            under += np.float32(weight) * agrees
        merged /= np.maximum(under, np.float32(TINY))
        return merged

    return operands.over_base(by_blocks(deltas[0], part))


def _varying(deltas: list[Float32], share: float) -> NDArray[np.bool_]:
    """The `share` of the entries that vary at all with the largest variance, flat."""
    flat = [delta.reshape(-1) for delta in deltas]
    variance = by_blocks(deltas[0], lambda block: np.var([delta[block] for delta in flat], axis=0)).reshape(-1)
    count = int(np.count_nonzero(variance) * share) if share > 0 else 0
    return ranked(variance, variance.size - count, variance.size) if count else np.zeros(variance.size, np.bool_)


def _passthrough(operands: Operands) -> Float32:
    """x, times `scale`."""
    scale = operands.own[0]["scale"]
    return operands.combined({0: 1.0 if scale is None else scale})


def _of_task_vectors(
    name: str, thinning: Thinning | None, elected: bool, normalize: bool, rescale: bool, **own: Parameter
) -> Method:
    shared = {
        "int8_mask": Parameter(bool, False),  # how mergekit stores a mask: it changes no result
        "normalize": Parameter(bool, normalize),
        "rescale": Parameter(bool, rescale),
        "lambda": Parameter(float, 1.0),
    }
    each = {"weight": Parameter(float), "density": Parameter(float, 1.0), **own}
    return Method(name, _task_vectors(thinning, elected), shared=shared, own=each)


GAMMA, EPSILON = Parameter(float, 0.01), Parameter(float, 0.15)
METHODS = {
    method.name: method
    for method in (
        Method("linear", _linear, "ignored", {"normalize": Parameter(bool, True)}, {"weight": Parameter(float)}),
        Method("slerp", _slerp, shared={"t": Parameter(float)}, most=1),
        Method(
            "nuslerp",
            _nuslerp,
            "optional",
            {"nuslerp_row_wise": Parameter(bool, False), "nuslerp_flatten": Parameter(bool, True)},
            {"weight": Parameter(float)},
            fewest=2,
            most=2,
        ),
        Method("model_stock", _model_stock, shared={"filter_wise": Parameter(bool, False)}, fewest=2),
        Method("sce", _sce, shared={"int8_mask": Parameter(bool, False), "select_topk": Parameter(float, 1.0)}),
        Method("passthrough", _passthrough, "ignored", own={"scale": Parameter(float, optional=True)}, most=1),
        _of_task_vectors("task_arithmetic", None, elected=False, normalize=False, rescale=False),
        _of_task_vectors("ties", _largest, elected=True, normalize=True, rescale=False),
        _of_task_vectors("dare_ties", _drawn, elected=True, normalize=False, rescale=True),
        _of_task_vectors("dare_linear", _drawn, elected=False, normalize=False, rescale=True),
        _of_task_vectors("breadcrumbs", _middle, elected=False, normalize=False, rescale=False, gamma=GAMMA),
        _of_task_vectors("breadcrumbs_ties", _middle, elected=True, normalize=False, rescale=False, gamma=GAMMA),
        _of_task_vectors("della", _by_rank, elected=True, normalize=True, rescale=True, epsilon=EPSILON),
        _of_task_vectors("della_linear", _by_rank, elected=False, normalize=False, rescale=True, epsilon=EPSILON),
    )
}
