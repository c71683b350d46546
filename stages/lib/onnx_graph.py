"""One ONNX graph an architecture: traced from the base by Optimum, then bound to any variant's weights.

Every weight in Optimum's graph is a tensor of the checkpoint or its transpose, bit for bit. So the graph
is traced once; a variant is the same `model.onnx` with a `model.onnx.data` of its own.
"""

import contextlib
import hashlib
import io
import json
import logging
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.external_data_helper import set_external_data

from stages.lib.errors import PipelineError
from stages.lib.files import write_json
from stages.lib.inference.session import GRAPH, LOGIT_POSITIONS
from stages.lib.tensor_files import Checkpoint, Tensor

WEIGHTS, BINDING = "model.onnx.data", "binding.json"
ALIGNMENT = 4096  # ONNX Runtime maps external data into memory by pages


class Bound(NamedTuple):
    """Which checkpoint tensor a weight of the graph is."""

    tensor: str
    transposed: bool


def trace(base: Path, dtype: str, opset: int) -> onnx.ModelProto:
    """Optimum's text-generation graph with past key values, weights included.

    Inputs: `input_ids`, `attention_mask` [batch, past + time], `position_ids` [batch, time],
    `past_key_values.*` [batch, key-value heads, past, head size].
    """
    from optimum.exporters.onnx import main_export  # slow to import, and a variant does not need it

    logging.getLogger("optimum").setLevel(logging.ERROR)
    with TemporaryDirectory(prefix="safety-tax-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's, on shapes that the parity gate checks
        with contextlib.redirect_stdout(io.StringIO()):
            main_export(
                str(base),
                output=folder,
                task="text-generation-with-past",
                opset=opset,
                dtype={"float32": "fp32", "float16": "fp16"}[dtype],
                do_validation=False,  # only warns, on random inputs; the stage has a gate of its own
            )
        return onnx.load(str(Path(folder) / GRAPH))


def add_logit_positions(model: onnx.ModelProto) -> None:
    """Apply the head only where a logit is wanted: a new input `logit_positions`, int64 [batch, wanted].

    `logits` becomes [batch, wanted, vocabulary]. The head is a fifth of a small model's work, and logits of
    every position are gigabytes with a large vocabulary.
    """
    graph = model.graph
    head = next(node for node in graph.node if "logits" in node.output)
    if head.op_type != "MatMul":
        raise PipelineError(f"Expected the graph to end in a MatMul head, found {head.op_type}; report this model.")
    hidden = head.input[0]
    axis = numpy_helper.from_array(np.array([2], np.int64), "logit_positions_axis")
    graph.initializer.append(axis)
    nodes = [
        helper.make_node("Unsqueeze", [LOGIT_POSITIONS, axis.name], ["logit_indices"], "logit_indices"),
        helper.make_node("GatherND", [hidden, "logit_indices"], ["wanted_hidden"], "wanted_hidden", batch_dims=1),
    ]
    place = list(graph.node).index(head)
    for offset, node in enumerate(nodes):
        graph.node.insert(place + offset, node)
    head.input[0] = "wanted_hidden"
    graph.input.append(helper.make_tensor_value_info(LOGIT_POSITIONS, TensorProto.INT64, ["batch_size", "wanted"]))
    logits = next(output for output in graph.output if output.name == "logits")
    logits.type.tensor_type.shape.dim[1].dim_param = "wanted"


def _digest(tensor: Tensor) -> str:
    array = np.ascontiguousarray(tensor)
    return hashlib.sha256(str(array.shape).encode() + array.tobytes()).hexdigest()


def bind(model: onnx.ModelProto, base: Checkpoint, dtype: np.dtype[Any]) -> dict[str, Bound]:
    """Find, by value, which tensor of the base each weight of the graph is.

    A tensor of the same name and value wins; a matrix without its name must match exactly one. Raises
    PipelineError when a weight matches none or several, or a tensor of the base is left over.
    """
    weights = {weight.name: weight for weight in model.graph.initializer if weight.name != "logit_positions_axis"}
    named: dict[str, Bound] = {}
    by_value: dict[str, list[Bound]] = {}
    for name in base.names():
        tensor = base.read(name).astype(dtype)
        digest = _digest(tensor)
        if name in weights and digest == _digest(numpy_helper.to_array(weights[name])):
            named[name] = Bound(name, False)
            continue
        by_value.setdefault(digest, []).append(Bound(name, False))
        if tensor.ndim == 2:
            by_value.setdefault(_digest(tensor.T), []).append(Bound(name, True))
    binding = dict(named)
    for name, weight in weights.items():
        if name in named:
            continue
        matches = by_value.get(_digest(numpy_helper.to_array(weight)), [])
        if len({match.tensor for match in matches}) != 1:
            raise PipelineError(
                f"Expected the graph's weight {name} to be one tensor of {base.path}, found {len(matches)} that equal "
                "it; this architecture cannot be exported once for all variants."
            )
        binding[name] = matches[0]
    left_over = set(base.names()) - {bound.tensor for bound in binding.values()}
    if left_over:
        raise PipelineError(
            f"Expected every tensor of {base.path} in the graph, found {sorted(left_over)[0]} unused; "
            "remove it from the checkpoint, or export this model by itself."
        )
    return binding


def save_graph(model: onnx.ModelProto, binding: dict[str, Bound], folder: Path) -> None:
    """Write `model.onnx` without its weights, which point into `model.onnx.data`, and `binding.json`."""
    offset = 0
    for weight in model.graph.initializer:
        if weight.name in binding:
            length = len(weight.raw_data) if weight.raw_data else numpy_helper.to_array(weight).nbytes
            weight.raw_data = b""
            set_external_data(weight, location=WEIGHTS, offset=offset, length=length)
            weight.data_location = TensorProto.EXTERNAL
            weight.ClearField("raw_data")
            weight.ClearField("float_data")
            offset += -(-length // ALIGNMENT) * ALIGNMENT
    (folder / GRAPH).write_bytes(model.SerializeToString(deterministic=True))
    write_json(folder / BINDING, {name: bound._asdict() for name, bound in sorted(binding.items())})


def write_weights(
    graph: Path, binding: dict[str, Bound], checkpoint: Checkpoint, dtype: np.dtype[Any], to: Path
) -> None:
    """Write a variant's weights where the graph looks for them, one tensor at a time.

    Raises PipelineError when the checkpoint lacks a tensor or has it in another shape.
    """
    model = onnx.load(str(graph), load_external_data=False)
    with to.open("wb") as stream:
        for weight in model.graph.initializer:
            if weight.name not in binding:
                continue
            place = {entry.key: entry.value for entry in weight.external_data}
            bound = binding[weight.name]
            if bound.tensor not in checkpoint.names():
                raise PipelineError(
                    f"Expected the tensor {bound.tensor} in {checkpoint.path}, found none; merge again."
                )
            tensor = checkpoint.read(bound.tensor)
            array = np.ascontiguousarray(tensor.T if bound.transposed else tensor, dtype=dtype)
            if array.shape != tuple(weight.dims) or array.nbytes != int(place["length"]):
                raise PipelineError(
                    f"Expected {bound.tensor} of {checkpoint.path} to have the base's shape {tuple(weight.dims)}, "
                    f"found {array.shape}; the donor is of another architecture or vocabulary."
                )
            stream.seek(int(place["offset"]))
            stream.write(array.data)


def load_binding(path: Path) -> dict[str, Bound]:
    """Read `binding.json`."""
    return {name: Bound(**bound) for name, bound in json.loads(path.read_text(encoding="utf-8")).items()}
