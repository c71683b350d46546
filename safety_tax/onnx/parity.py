"""The gate of an export: ONNX Runtime against PyTorch in float32, neither with a whole model in memory of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, cycle, islice
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper
from transformers import PreTrainedModel

from safety_tax.core.files import write_json
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.engine.gate import EXPECTED
from safety_tax.engine.gqa.rows_session import ROWS_GRAPH
from safety_tax.engine.gqa.session import GROUPED_GRAPH
from safety_tax.engine.session import GRAPH, LOGIT_POSITIONS
from safety_tax.model_files.attention import read_attention
from safety_tax.onnx.graph_pieces import Values, run_in_pieces
from safety_tax.onnx.grouped_query import grouped_logits
from safety_tax.onnx.rows_export import rows_difference
from safety_tax.onnx.weightless import weightless

Float32 = NDArray[np.float32]
KEPT = 5
"""Most likely tokens of a place, whose log-probabilities an export keeps."""


@contextmanager
def weights_in_turn(network: PreTrainedModel, checkpoint: Checkpoint) -> Iterator[None]:
    """Let each layer of a `weightless` network have its checkpoint tensors while it runs, in the network's type."""
    names: dict[int, str] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        if name in checkpoint:
            names[id(parameter)] = name  # a tied head finds the embedding's

    def fill(layer: torch.nn.Module, arguments: object) -> None:
        for parameter in layer.parameters(recurse=False):
            tensor = np.array(checkpoint.read(names[id(parameter)]), np.float32)
            parameter.data = torch.from_numpy(tensor).to(parameter.dtype)

    def clear(layer: torch.nn.Module, arguments: object, output: object) -> None:
        for parameter in layer.parameters(recurse=False):
            parameter.data = torch.zeros(1, dtype=parameter.dtype).expand(parameter.shape)

    layers = [layer for layer in network.modules() if next(layer.parameters(recurse=False), None) is not None]
    hooks = [layer.register_forward_pre_hook(fill) for layer in layers]
    hooks += [layer.register_forward_hook(clear) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def pytorch_logits(weights: Path, prompts: list[list[int]]) -> list[Float32]:
    """Logits [time, vocabulary] of each prompt alone, in float32."""
    network = weightless(weights, torch.float32)
    with weights_in_turn(network, Checkpoint(weights)), torch.inference_mode():
        return [network(torch.tensor([prompt]), use_cache=False).logits[0].numpy() for prompt in prompts]


def onnx_logits(folder: Path, prompts: list[list[int]]) -> list[Float32]:
    """Logits [time, vocabulary] of each prompt alone, its second half with the first half as its past."""
    graph = onnx.load(str(folder / GRAPH), load_external_data=False).graph
    pasts = [entry for entry in graph.input if entry.name.startswith("past_key_values.")]

    def feed(tokens: list[int], start: int, past: Values) -> Values:
        places = np.arange(len(tokens))[None]
        return past | {
            "input_ids": np.array([tokens], np.int64),
            "attention_mask": np.ones((1, start + len(tokens)), np.int64),
            "position_ids": start + places,
            LOGIT_POSITIONS: places,
        }

    empty = {}
    for entry in pasts:
        shape = [dimension.dim_value for dimension in entry.type.tensor_type.shape.dim]
        dtype = helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
        empty[entry.name] = np.zeros((1, shape[1], 0, shape[3]), dtype)
    halves = [(prompt[: len(prompt) // 2], prompt[len(prompt) // 2 :]) for prompt in prompts]
    first = run_in_pieces(folder / GRAPH, [feed(half, 0, empty) for half, _ in halves])
    second = run_in_pieces(
        folder / GRAPH,
        [
            feed(half, len(before), {name: values[name.replace("past_key_values", "present")] for name in empty})
            for (before, half), values in zip(halves, first, strict=True)
        ],
    )
    return [
        np.concatenate([values["logits"][0] for values in pair]).astype(np.float32)
        for pair in zip(first, second, strict=True)
    ]


def worst_difference(found: list[Float32], expected: list[Float32]) -> float:
    """Largest difference in log-probability (nats) at any position; infinite where one is not finite.

    Both are logits [time, vocabulary] of the same prompts; `found` may lack positions at a prompt's start.
    """
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        difference = float(np.abs(log_softmax(one) - log_softmax(other[len(other) - len(one) :])).max())
        worst = max(worst, difference) if np.isfinite(difference) else float("inf")
    return worst


def log_softmax(logits: Float32) -> NDArray[np.float64]:
    """Log-probabilities, in nats."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    wide -= np.log(np.exp(wide).sum(axis=-1, keepdims=True))
    return wide


def largest_difference(weights: Path, folder: Path, prompts: list[list[int]]) -> float:
    """Largest difference in log-probability (nats) between PyTorch and ONNX Runtime on the CPU, at any position.

    PyTorch runs the checkpoint's own values in float32, so a float16 export shows all that its rounding costs. One
    after the other: their memory does not add up.
    """
    expected = pytorch_logits(weights, prompts)
    return worst_difference(onnx_logits(folder, prompts), expected)


def gate_difference(weights: Path, folder: Path, prompts: list[list[int]], on_gpu: float) -> float:
    """The same for every graph of `folder`, on the CPU, with one more prompt that ends behind all windows.

    Within a window, all tokens are seen whichever way a graph limits attention. What PyTorch says is kept in the
    folder, for a GPU that runs it: there `on_gpu` nats are granted.
    """
    length = read_attention(weights).gate_length()
    if length is not None:
        prompts = [*prompts, list(islice(cycle(chain.from_iterable(prompts)), length))]
    expected = pytorch_logits(weights, prompts)
    worst = worst_difference(onnx_logits(folder, prompts), expected)
    if (folder / GROUPED_GRAPH).exists():
        worst = max(worst, worst_difference(grouped_logits(folder, prompts), expected))
    if (folder / ROWS_GRAPH).exists():
        worst = max(worst, rows_difference(folder, prompts, [log_softmax(logits) for logits in expected]))
    keep_expected(folder, prompts, expected, on_gpu)
    return worst


def keep_expected(folder: Path, prompts: list[list[int]], logits: list[Float32], on_gpu: float) -> None:
    """Write `parity.json`: of each place in the prompts' second halves the most likely next tokens, by PyTorch."""
    entries = []
    for prompt, of_prompt in zip(prompts, logits, strict=True):
        of_half = log_softmax(of_prompt[len(prompt) // 2 :])
        likely = np.argsort(-of_half, axis=-1, kind="stable")[:, :KEPT]
        kept = np.take_along_axis(of_half, likely, axis=-1)
        entries.append({"tokens": prompt, "targets": likely.tolist(), "logprobs": kept.round(6).tolist()})
    write_json(folder / EXPECTED, {"tolerance": on_gpu, "prompts": entries})
