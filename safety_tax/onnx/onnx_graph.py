"""One ONNX graph an architecture: traced from the base by Optimum, then bound to any variant's weights.

Every weight in Optimum's graph is a tensor of the checkpoint or its transpose. So the graph is traced once, from a
network whose parameters take no memory; a variant is the same `model.onnx` with a `model.onnx.data` of its own.
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
from onnx import TensorProto, helper, numpy_helper
from transformers import PreTrainedModel

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.engine.session import GRAPH, LOGIT_POSITIONS
from safety_tax.onnx.onnx_weights import Bound, save_graph
from safety_tax.onnx.weightless import weightless

# The name of a layer's last product of its attention, behind the layer's.
ATTENTION_OUTPUT = "/self_attn/o_proj/MatMul"


class Traced(NamedTuple):
    """A graph whose weights are still inputs without a value, and the names of those weights, in the graph's order."""

    model: onnx.ModelProto
    weights: list[str]


def write_graph(weights: Path, checkpoint: Checkpoint, dtype: str, opset: int, folder: Path) -> None:
    """Write `model.onnx` and `binding.json` of the base in the folder `weights`, without its weights.

    What is stored in bfloat16, which the tracer does not know, is multiplied in float32.
    """
    computed = "float16" if dtype == "float16" else "float32"
    network = weightless(weights, {"float32": torch.float32, "float16": torch.float16}[computed])
    traced = trace(network, computed, opset)
    binding = bind(traced, network, checkpoint)
    add_logit_positions(traced.model)
    if dtype != computed:
        _store_as(TensorProto.BFLOAT16, traced.model.graph, binding)
    save_graph(traced.model, binding, folder / GRAPH)


def trace(network: PreTrainedModel, dtype: str, opset: int) -> Traced:
    """The text-generation graph with past key values, as Optimum's exporter makes it from a `weightless` network.

    Inputs: `input_ids`, `attention_mask` [batch, past + time], `position_ids` [batch, time],
    `past_key_values.*` [batch, key-value heads, past, head size].
    Raises PipelineError when Optimum cannot export the architecture.
    """
    import optimum.exporters.onnx.model_configs  # noqa: F401  # registers the architectures; slow to import
    from optimum.exporters.tasks import TasksManager

    try:
        make_config = TasksManager.get_exporter_config_constructor(
            "onnx", model=network, task="text-generation-with-past", library_name="transformers"
        )
    except (KeyError, ValueError):
        raise PipelineError(
            f"Expected an architecture that Optimum exports as a text generator, found {network.config.model_type!r}; "
            "choose another model."
        ) from None
    float_dtype = {"float32": "fp32", "float16": "fp16"}[dtype]
    config = make_config(network.config, float_dtype=float_dtype, use_past_in_inputs=True)
    network.config.use_cache = network.config.return_dict = True
    # `optimum.exporters.onnx.main_export` does what follows, but with the weights inside the graph: a model of several
    # gigabytes would be loaded, written and loaded again, several times its size in memory.
    with TemporaryDirectory(prefix="safety-tax-") as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the tracer's, on shapes that the parity gate checks
        example = config.rename_ambiguous_inputs(config.generate_dummy_inputs(framework="pt"))
        path = Path(folder) / GRAPH
        with config.patch_model_for_export(network, model_kwargs={"logits_to_keep": 0}), _shapes_without_weights():
            inputs = config.ordered_inputs(network)
            torch.onnx.export(
                network,
                (example,),
                str(path),
                input_names=list(inputs),
                output_names=list(config.outputs),
                dynamic_axes=inputs | config.outputs,
                opset_version=opset,
                export_params=False,
                keep_initializers_as_inputs=True,  # or equal weights would become one
                dynamo=False,
            )
        config.fix_dynamic_axes(path, dtype=float_dtype)
        model = onnx.load(str(path))
    return Traced(model, [entry.name for entry in model.graph.input if entry.name not in inputs])


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


def add_logit_positions(model: onnx.ModelProto) -> None:
    """Go on only where a logit is wanted, after the last layer's attention: `logit_positions`, int64 [batch, wanted].

    `logits` becomes [batch, wanted, vocabulary]. No later token sees what follows that attention. It is most of the
    last layer and the head, a fifth of a small model's work; and logits of every position are gigabytes with a large
    vocabulary.

    Raises PipelineError when the graph has no such place, or does not end in a linear head.
    """
    graph = model.graph
    head = next(node for node in graph.node if "logits" in node.output)
    if head.op_type != "MatMul":
        raise PipelineError(f"Expected the graph to end in a MatMul head, found {head.op_type}; report this model.")
    projections = [node.name for node in graph.node if node.name.endswith(ATTENTION_OUTPUT)]
    last = projections[-1].removesuffix(ATTENTION_OUTPUT) if projections else ""
    attended = next((node for node in graph.node if node.name == f"{last}/Add"), None)
    if attended is None:
        raise PipelineError(
            f"Expected layers that add what {ATTENTION_OUTPUT} gives in a node /Add, found none; report this model."
        )
    axis = numpy_helper.from_array(np.array([2], np.int64), "logit_positions_axis")
    graph.initializer.append(axis)
    everywhere = attended.output[0]
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == everywhere:
                node.input[place] = "wanted_hidden"
    nodes = [
        helper.make_node("Unsqueeze", [LOGIT_POSITIONS, axis.name], ["logit_indices"], "logit_indices"),
        helper.make_node("GatherND", [everywhere, "logit_indices"], ["wanted_hidden"], "wanted_hidden", batch_dims=1),
    ]
    place = list(graph.node).index(attended) + 1
    for offset, node in enumerate(nodes):
        graph.node.insert(place + offset, node)
    graph.input.append(helper.make_tensor_value_info(LOGIT_POSITIONS, TensorProto.INT64, ["batch_size", "wanted"]))
    logits = next(output for output in graph.output if output.name == "logits")
    logits.type.tensor_type.shape.dim[1].dim_param = "wanted"


def bind(traced: Traced, network: PreTrainedModel, base: Checkpoint) -> dict[str, Bound]:
    """Turn the traced weights into initializers of the network's type, and say which tensor of the base each is.

    A weight has its parameter's name, or it is a linear layer's, transposed by the tracer: then the name of the node
    that multiplies by it is the layer's. Raises PipelineError when a weight is neither, its tensor is missing or has
    another shape, or a tensor of the base is left over.
    """
    graph = traced.model.graph
    parameters = dict(network.named_parameters(remove_duplicate=False))
    stored = {id(parameter): name for name, parameter in parameters.items() if name in base}
    users = {name: node for node in graph.node for name in node.input}
    binding: dict[str, Bound] = {}
    for entry in [entry for entry in graph.input if entry.name in set(traced.weights)]:
        node = users[entry.name]
        layer = node.name.strip("/").replace("/", ".").rpartition(".")[0]
        transposed = entry.name not in parameters
        name = f"{layer}.weight" if transposed else entry.name
        shape = tuple(dimension.dim_value for dimension in entry.type.tensor_type.shape.dim)
        parameter = parameters.get(name)
        if parameter is None or shape != tuple(parameter.shape)[:: -1 if transposed else 1]:
            raise PipelineError(
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
        binding[entry.name] = Bound(tensor, transposed)
        graph.input.remove(entry)
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(str(parameter.dtype).removeprefix("torch.")))
        graph.initializer.append(TensorProto(name=entry.name, data_type=kind, dims=shape))
        if kind != entry.type.tensor_type.elem_type:
            _multiply_in(graph, node, kind, entry.type.tensor_type.elem_type)
    left_over = set(base.names()) - {bound.tensor for bound in binding.values()}
    if left_over:
        raise PipelineError(
            f"Expected every tensor of {base.path} in the graph, found {sorted(left_over)[0]} unused; "
            "remove it from the checkpoint, or export this model by itself."
        )
    return _without_tied_copies(graph, binding)


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


def _store_as(kind: int, graph: onnx.GraphProto, binding: dict[str, Bound]) -> None:
    """Give every bound weight another type; a node widens it where it is read."""
    for weight in graph.initializer:
        if weight.name not in binding:
            continue
        wide = f"{weight.name}_wide"
        for node in graph.node:
            for place, name in enumerate(node.input):
                if name == weight.name:
                    node.input[place] = wide
        graph.node.insert(0, helper.make_node("Cast", [weight.name], [wide], wide, to=weight.data_type))
        weight.data_type = kind


def _without_tied_copies(graph: onnx.GraphProto, binding: dict[str, Bound]) -> dict[str, Bound]:
    """Store a tensor that the graph wants both as it is and transposed (a tied head's) once; a node transposes it."""
    plain = {bound.tensor: name for name, bound in binding.items() if not bound.transposed}
    copies = {
        name: plain[bound.tensor] for name, bound in binding.items() if bound.transposed and bound.tensor in plain
    }
    for weight in [weight for weight in graph.initializer if weight.name in copies]:
        graph.initializer.remove(weight)
        node = helper.make_node("Transpose", [copies[weight.name]], [weight.name], f"{weight.name}_tied", perm=[1, 0])
        graph.node.insert(0, node)
    return {name: bound for name, bound in binding.items() if name not in copies}
