"""One ONNX graph an architecture: traced from the base by Optimum, then laid over the checkpoint's own tensors.

Every weight in Optimum's graph is a tensor of the checkpoint or its transpose. So the graph is traced once, from a
network whose parameters take no memory; a variant is the same `model.onnx` beside weight files of its own.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from transformers import PreTrainedModel

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.engine.provider_errors import PROVIDER_ERRORS, first_line
from safety_tax.engine.session import GRAPH
from safety_tax.model_files.families import export_config
from safety_tax.model_files.faults import FAULTS
from safety_tax.onnx.logit_positions import add_logit_positions
from safety_tax.onnx.over_checkpoint import Bound, read_from_checkpoint, save_graph
from safety_tax.onnx.weightless import cheap_products, weightless

UNTRACED: tuple[type[Exception], ...] = (*FAULTS, *PROVIDER_ERRORS)
"""What the tracer, or ONNX Runtime, raises for a network that it cannot do."""


class Traced(NamedTuple):
    """A graph whose weights are still inputs without a value."""

    model: onnx.ModelProto
    weights: list[str]
    """Names of those inputs, in the graph's order."""
    transposed: dict[str, str]
    """A weight -> the parameter that it is the transpose of, where that is known."""


class Unexplained(PipelineError):
    """A weight of the graph is neither a parameter nor its transpose: the tracer computed it from one."""


def write_graph(weights: Path, checkpoint: Checkpoint, dtype: str, opset: int, folder: Path) -> None:
    """Write the `model.onnx` of the base in the folder `weights`; it reads the tensors of `checkpoint`.

    What is stored in bfloat16, which the tracer does not know, is multiplied in float32.
    """
    computed = "float16" if dtype == "float16" else "float32"
    network = weightless(weights, {"float32": torch.float32, "float16": torch.float16}[computed])
    try:
        traced = trace(network, computed, opset)
        binding = bind(traced, network, checkpoint)
    except Unexplained:  # Gemma's norms multiply by 1 + weight
        traced = without_transposes(trace(network, computed, opset, fold=False))
        binding = bind(traced, network, checkpoint)
    add_logit_positions(traced.model)
    read_from_checkpoint(traced.model, binding, checkpoint, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    save_graph(traced.model, folder / GRAPH)


def trace(network: PreTrainedModel, dtype: str, opset: int, fold: bool = True) -> Traced:
    """The text-generation graph with past key values, as Optimum's exporter makes it from a `weightless` network.

    Inputs: `input_ids`, `attention_mask` [batch, past + time], `position_ids` [batch, time],
    `past_key_values.*` [batch, key-value heads, past, head size]. `fold` lets the tracer compute what hangs on weights
    alone, once: transposes, mostly.
    Raises PipelineError when Optimum cannot export the architecture.
    """
    float_dtype = {"float32": "fp32", "float16": "fp16"}[dtype]
    config = export_config(network, float_dtype)
    network.config.use_cache = network.config.return_dict = True
    # `optimum.exporters.onnx.main_export` does what follows, but with the weights inside the graph: a model of several
    # gigabytes would be loaded, written and loaded again, several times its size in memory.
    with TemporaryDirectory(prefix="safety-tax-") as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's, on shapes that the parity gate checks
        example = config.rename_ambiguous_inputs(config.generate_dummy_inputs(framework="pt"))
        path = Path(folder) / GRAPH
        with config.patch_model_for_export(network, model_kwargs={"logits_to_keep": 0}), _shapes_without_weights():
            inputs = config.ordered_inputs(network)
            with _refused(network, dtype), cheap_products():
                torch.onnx.export(
                    network,
                    (example,),
                    str(path),
                    input_names=list(inputs),
                    output_names=list(config.outputs),
                    dynamic_axes=inputs | config.outputs,
                    opset_version=opset,
                    export_params=False,
                    do_constant_folding=fold,
                    keep_initializers_as_inputs=True,  # or equal weights would become one
                    dynamo=False,
                )
        if dtype == "float16":
            _normalise_in_float16(path)
        with _refused(network, dtype):
            config.fix_dynamic_axes(path, dtype=float_dtype)  # it runs the graph, which shows whether it is one
        model = onnx.load(str(path))
    return Traced(model, [entry.name for entry in model.graph.input if entry.name not in inputs], {})


def _normalise_in_float16(path: Path) -> None:
    """Narrow what a layer norm of float16 weights reads in float32, as the network does, and widen what it gives.

    The tracer takes what comes out of attention for float32, and hands it to the norm as it is: that is no graph.
    """
    model = onnx.load(str(path))
    graph = onnx.shape_inference.infer_shapes(model).graph
    entries = (*graph.value_info, *graph.input)
    wide = {entry.name for entry in entries if entry.type.tensor_type.elem_type == TensorProto.FLOAT}
    for node in [node for node in graph.node if node.op_type == "LayerNormalization"]:
        if node.input[0] not in wide or node.input[1] in wide:
            continue
        place = list(model.graph.node).index(node)
        norm = model.graph.node[place]
        read, given = f"{node.name}_narrow", f"{node.name}_wide"
        model.graph.node.insert(
            place + 1, helper.make_node("Cast", [f"{given}_input"], [norm.output[0]], given, to=TensorProto.FLOAT)
        )
        norm.output[0] = f"{given}_input"
        model.graph.node.insert(place, helper.make_node("Cast", [norm.input[0]], [read], read, to=TensorProto.FLOAT16))
        model.graph.node[place + 1].input[0] = read
    onnx.save(model, str(path))


@contextmanager
def _refused(network: PreTrainedModel, dtype: str) -> Iterator[None]:
    """Say in a sentence what the tracer, or ONNX Runtime, cannot do with a network."""
    try:
        yield
    except UNTRACED as error:
        step = "set its dtype to float32 in params.yaml, or " if dtype == "float16" else ""
        raise PipelineError(
            f"Expected a network that Optimum traces in {dtype}, found the family {network.config.model_type!r}, with "
            f"which it fails ({first_line(error)[-200:]}); {step}choose a model of another family."
        ) from None


@contextmanager
def _shapes_without_weights() -> Iterator[None]:
    """Let PyTorch infer the graph's shapes from its weights' shapes alone.

    It hands that pass all weights, which writes each out in full, twice, though no shape depends on a value of theirs:
    for a model of 14 billion parameters in float16 that is 56 GB. The graph is the same to the byte.
    """
    name = "_jit_pass_onnx_graph_shape_type_inference"
    infer = getattr(torch._C, name)
    setattr(torch._C, name, lambda graph, weights, opset: infer(graph, {}, opset))
    try:
        yield
    finally:
        setattr(torch._C, name, infer)


def without_transposes(traced: Traced) -> Traced:
    """The graph without the nodes that transpose (and widen) a weight for a product: they are a weight of their own.

    Of a graph that was traced without folding.
    """
    graph, weights, transposed = traced.model.graph, list(traced.weights), dict[str, str]()
    shapes = {entry.name: entry.type.tensor_type for entry in graph.input}
    users: dict[str, list[tuple[onnx.NodeProto, int]]] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            users.setdefault(name, []).append((node, place))
    for node in [node for node in graph.node if node.op_type == "Transpose" and node.input[0] in set(weights)]:
        weight, chain, kind = node.input[0], [node], shapes[node.input[0]].elem_type
        while len(users.get(chain[-1].output[0], ())) == 1 and users[chain[-1].output[0]][0][0].op_type == "Cast":
            chain.append(users[chain[-1].output[0]][0][0])
            kind = helper.get_node_attr_value(chain[-1], "to")
        places = users.get(chain[-1].output[0], [])
        if len(shapes[weight].shape.dim) != 2 or any((use.op_type, place) != ("MatMul", 1) for use, place in places):
            continue
        name, shape = chain[-1].output[0], [dimension.dim_value for dimension in shapes[weight].shape.dim]
        transposed[name] = weight
        weights.append(name)
        graph.input.append(helper.make_tensor_value_info(name, kind, shape[::-1]))
        for gone in chain:
            graph.node.remove(gone)
    read = {name for node in graph.node for name in node.input}
    for entry in [entry for entry in graph.input if entry.name in set(weights) and entry.name not in read]:
        graph.input.remove(entry)
        weights.remove(entry.name)
    return Traced(traced.model, weights, transposed)


def bind(traced: Traced, network: PreTrainedModel, base: Checkpoint) -> dict[str, Bound]:
    """Turn the traced weights into initializers of the network's type, and say which tensor of the base each is.

    A weight has its parameter's name, or it is a linear layer's, transposed by the tracer: then the name of the node
    that multiplies by it is the layer's. Raises Unexplained when a weight is neither, PipelineError when its tensor is
    missing or has another shape, or a tensor of the base is left over.
    """
    graph = traced.model.graph
    parameters = dict(network.named_parameters(remove_duplicate=False))
    stored = {id(parameter): name for name, parameter in parameters.items() if name in base}
    users = {name: node for node in graph.node for name in node.input}
    binding: dict[str, Bound] = {}
    for entry in [entry for entry in graph.input if entry.name in set(traced.weights)]:
        node = users[entry.name]
        transposed = entry.name not in parameters
        name = _transposed_at(node, entry.name, traced) if transposed else entry.name
        shape = tuple(dimension.dim_value for dimension in entry.type.tensor_type.shape.dim)
        parameter = parameters.get(name)
        if parameter is None or shape != tuple(parameter.shape)[:: -1 if transposed else 1]:
            raise Unexplained(
                f"Expected the graph's weight {entry.name} to be a parameter or the transposed weight of a linear "
                f"layer, found it at {node.op_type} {node.name}; this architecture cannot be exported once for all "
                "variants."
            )
        tensor = stored.get(id(parameter))
        if tensor is None or base.shape(tensor) != tuple(parameter.shape):
            found = "none" if tensor is None else str(base.shape(tensor))
            raise PipelineError(
                f"Expected the tensor {name} {tuple(parameter.shape)} in {base.path}, as its config.json says, "
                f"found {found}; fetch the model again."
            )
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(str(parameter.dtype).removeprefix("torch.")))
        if kind != entry.type.tensor_type.elem_type:
            if node.op_type != "MatMul":
                raise Unexplained(
                    f"Expected the graph's weight {entry.name} in the type of its parameter, found it widened at "
                    f"{node.op_type} {node.name}; this architecture cannot be exported once for all variants."
                )
            _multiply_in(graph, node, kind, entry.type.tensor_type.elem_type)
        binding[entry.name] = Bound(tensor, transposed)
        graph.input.remove(entry)
        graph.initializer.append(TensorProto(name=entry.name, data_type=kind, dims=shape))
    left_over = set(base.names()) - {bound.tensor for bound in binding.values()}
    if left_over:
        raise PipelineError(
            f"Expected every tensor of {base.path} in the graph, found {sorted(left_over)[0]} unused; "
            "remove it from the checkpoint, or export this model by itself."
        )
    return binding


def _transposed_at(node: onnx.NodeProto, weight: str, traced: Traced) -> str:
    """The parameter whose transpose a product multiplies by; empty where it is no such product."""
    if weight in traced.transposed:
        return traced.transposed[weight]
    if node.op_type != "MatMul" or node.input[1] != weight:
        return ""
    return node.name.strip("/").replace("/", ".").rpartition(".")[0] + ".weight"


def _multiply_in(graph: onnx.GraphProto, node: onnx.NodeProto, kind: int, around: int) -> None:
    """Let a linear layer multiply in its weight's type `kind`, where the tracer widened the weight to `around`.

    In a float16 model the tracer's softmax and residual stream are float32, and with them `o_proj`: as float32 it would
    be twice as large and, on a GPU, several times slower than the checkpoint's own arithmetic.
    """
    place = list(graph.node).index(node)
    narrow, wide = f"{node.name}_narrow", f"{node.name}_wide"
    graph.node.insert(place, helper.make_node("Cast", [node.input[0]], [narrow], narrow, to=kind))
    graph.node.insert(place + 2, helper.make_node("Cast", [f"{wide}_input"], [node.output[0]], wide, to=around))
    node.input[0], node.output[0] = narrow, f"{wide}_input"
