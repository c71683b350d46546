"""Second moments of a model's layer inputs, and its diagonal Fisher, streamed layer by layer or row by row."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import eigh
from transformers.pytorch_utils import Conv1D

from safety_tax.core.errors import PipelineError
from safety_tax.donors.tuning_rows import TuningRow


class Moments(NamedTuple):
    """E[x xᵀ] over the tokens of each kind, [in, in] in float32, of one input that some linear layers share."""

    names: list[str]
    """The weights that read this input."""
    harmful: NDArray[np.float32]
    benign: NDArray[np.float32]


class _Calls(NamedTuple):
    """One row on its way through the layers."""

    state: torch.Tensor
    """Hidden states, [1, tokens, width], before the next layer."""
    settings: list[dict[str, Any]]
    """What each layer is called with beside them: layers differ in mask or rotation where their attention does."""


def _calls(model: Any, rows: list[list[int]]) -> list[_Calls]:
    """Of each row of token ids, what the layers are called with. No layer computes anything."""
    seen: list[tuple[torch.Tensor, dict[str, Any]]] = []
    inner, layers = model.base_model, list(decoder_layers(model).values())
    in_tuple = False

    def note(hidden_states: torch.Tensor, **settings: Any) -> Any:
        seen.append((hidden_states, settings))
        return (hidden_states, None) if in_tuple else hidden_states

    def look(layer: Any, given: Any, output: Any) -> None:
        nonlocal in_tuple
        in_tuple = isinstance(output, tuple)

    handle = layers[0].register_forward_hook(look)
    inner(input_ids=torch.tensor([rows[0][:1]], device=model.device), use_cache=False)  # what a layer returns
    handle.remove()
    found = []
    for layer in layers:
        layer.forward = note
    try:
        for row in rows:
            seen.clear()
            inner(input_ids=torch.tensor([row], device=model.device), use_cache=False)
            found.append(_Calls(seen[0][0], [settings for _, settings in seen]))
    finally:
        for layer in layers:
            del layer.forward  # the class's own is back
    return found


def decoder_layers(model: Any) -> dict[str, Any]:
    """The decoder's layers by their names, first to last."""
    depth = model.config.num_hidden_layers
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.ModuleList) and len(module) == depth:
            return {f"{name}.{number}": layer for number, layer in enumerate(module)}
    raise AssertionError(f"a decoder keeps its {depth} layers in a list")


def require_curved(model: Any) -> None:
    """Raises PipelineError for a model whose weights have no second moments of inputs as [out, in] weights have."""
    kinds = {type(module) for layer in decoder_layers(model).values() for module in layer.modules()}
    experts = any(hasattr(module, "experts") for module in model.modules())
    if experts or Conv1D in kinds:
        found = "experts, which see a token only where it is sent to them" if experts else "weights stored as [in, out]"
        raise PipelineError(
            f"Expected layers that all see every token, with weights [out, in], to measure curvature, found {found} in "
            f"the family {model.config.model_type!r}; set curvature.forms to [] in params.yaml, and use recipes that "
            "want none."
        )


def _note(seen: dict[str, Any], name: str, module: Any, args: Any) -> None:
    seen[name] = args[0]


def _linears(layer: Any) -> dict[str, Any]:
    return {name: module for name, module in layer.named_modules() if isinstance(module, torch.nn.Linear)}


@torch.no_grad()
def stream_moments(
    model: Any, harmful: list[list[int]], benign: list[list[int]], advance: Callable[[], None]
) -> Iterator[Moments]:
    """One forward pass over all rows (token ids), layer after layer.

    In memory beside the model: the rows' hidden states, and the moments of one layer.
    """
    kinds = ["harmful"] * len(harmful) + ["benign"] * len(benign)
    calls = _calls(model, harmful + benign)
    for number, (path, layer) in enumerate(decoder_layers(model).items()):
        linears = _linears(layer)
        seen: dict[str, Any] = {}
        handles = [module.register_forward_pre_hook(partial(_note, seen, name)) for name, module in linears.items()]
        groups: list[list[str]] = []
        sums: dict[tuple[str, str], torch.Tensor] = {}
        for place, (kind, call) in enumerate(zip(kinds, calls, strict=True)):
            seen.clear()
            output = layer(call.state, **call.settings[number])
            calls[place] = call._replace(state=output[0] if isinstance(output, tuple) else output)
            if not groups:
                groups = _sharing(seen)
            for group in groups:
                tokens = seen[group[0]].reshape(-1, seen[group[0]].shape[-1]).float()
                key = (group[0], kind)
                sums[key] = sums.get(key, torch.zeros(())) + tokens.T @ tokens
            advance()
        for handle in handles:
            handle.remove()
        for group in groups:
            scaled = [
                (sums[group[0], kind] / sum(len(row) for row in rows)).cpu().numpy()
                for kind, rows in (("harmful", harmful), ("benign", benign))
            ]
            yield Moments([f"{path}.{name}.weight" for name in group], *scaled)


def _sharing(seen: dict[str, Any]) -> list[list[str]]:
    """Modules that were called with the very same tensor."""
    groups: dict[int, list[str]] = {}
    for name, tensor in seen.items():  # all of them are alive, so that ids differ
        groups.setdefault(id(tensor), []).append(name)
    return list(groups.values())


def subspace(moments: Moments, epsilon: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(VᵀM, Vᵀ), [in, in] each, of C_h v = λ M v, by falling λ; M = C_b + epsilon · mean(diag C_b) · I, VᵀMV = I.

    Raises PipelineError when a moment is not finite or all benign inputs are zero.
    """
    ridge = epsilon * float(np.mean(np.diag(moments.benign), dtype=np.float64))
    if not (ridge > 0 and np.isfinite(ridge) and np.isfinite(moments.harmful).all()):
        raise PipelineError(
            f"Expected finite inputs of {moments.names[0]}, and some that are not zero, found neither; "
            "fetch the model again."
        )
    metric = moments.benign.astype(np.float64)
    metric[np.diag_indices_from(metric)] += ridge
    vectors = eigh(moments.harmful.astype(np.float64), metric)[1][:, ::-1]
    return (vectors.T @ metric).astype(np.float32), np.ascontiguousarray(vectors.T, np.float32)


def diagonal_fisher(model: Any, rows: list[TuningRow], advance: Callable[[], None]) -> dict[str, NDArray[np.float32]]:
    """Mean over rows of the squared gradient of log p(response | prompt), for every linear weight of the layers.

    One row at a time, so that squares are of each row's own gradient (empirical Fisher; Kunstner et al. 2019,
    arXiv:1905.12558, on how it differs from the true one).
    """

    def square(total: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor) -> None:
        total.addcmul_(gradient, gradient)

    return _mean_over_rows(model, rows, square, advance)


def snip(model: Any, rows: list[TuningRow], advance: Callable[[], None]) -> dict[str, NDArray[np.float32]]:
    """Mean over rows of |W · ∇ −log p(response | prompt)|, for every linear weight of the layers.

    The connection sensitivity of Lee et al. 2019 (arXiv:1810.02340), a row at a time as Wei et al. 2024
    (arXiv:2402.05162) take it.
    """

    def sensitivity(total: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor) -> None:
        total.add_((weight.detach().float() * gradient).abs())

    return _mean_over_rows(model, rows, sensitivity, advance)


def _mean_over_rows(
    model: Any,
    rows: list[TuningRow],
    add: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], None],
    advance: Callable[[], None],
) -> dict[str, NDArray[np.float32]]:
    """Sums that `add` makes of (sum, weight, gradient), divided by the number of rows.

    An expert that a row's tokens do not reach has no gradient of that row: it adds nothing.
    Raises PipelineError for a model whose layers have no linear weights.
    """
    weights = {
        f"{place}.{name}.weight": module.weight
        for place, layer in decoder_layers(model).items()
        for name, module in _linears(layer).items()
    }
    if not weights:
        raise PipelineError(
            f"Expected layers with weights stored as [out, in], found none in the family {model.config.model_type!r}; "
            "name no donor in importance.donors of params.yaml, and use recipes that want none."
        )
    model.requires_grad_(False)
    for weight in weights.values():
        weight.requires_grad_(True)
    sums = {name: torch.zeros_like(weight, dtype=torch.float32) for name, weight in weights.items()}
    for row in rows:
        ids = torch.tensor([row.prompt + row.response], device=model.device)
        logits = model(input_ids=ids, use_cache=False, logits_to_keep=len(row.response) + 1).logits[0, :-1].float()
        loss = torch.nn.functional.cross_entropy(logits, ids[0, -len(row.response) :], reduction="sum")
        loss.backward()
        for name, weight in weights.items():
            if weight.grad is not None:
                add(sums[name], weight, weight.grad.float())
            weight.grad = None
        advance()
    return {name: (total / len(rows)).cpu().numpy() for name, total in sums.items()}
