"""The last pass over a graph that is written: its weights are the checkpoint's own tensors, where they lie on the disk.

ONNX external data may begin at any byte of any file beside the graph, so it may lie in a safetensors file. A linear
layer's weight lies there as [out, in], while the tracer multiplies by its transpose: such a product becomes ONNX
Runtime's `FusedMatMul` with `transB`, which reads [out, in]. ONNX Runtime packs the weights of both products into the
same form when it loads them, so it takes the same time and gives the same bits. A `Transpose` before the product, which
it would carry out at load, gives them too, but holds one more copy of the weight meanwhile.
"""

from pathlib import Path
from typing import NamedTuple

from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper
from onnx.external_data_helper import set_external_data

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint

CONTRIB = "com.microsoft"  # the domain of ONNX Runtime's own operators


class Bound(NamedTuple):
    """Which checkpoint tensor a weight of the graph is."""

    tensor: str
    transposed: bool


def read_from_checkpoint(model: ModelProto, binding: dict[str, Bound], checkpoint: Checkpoint, stored: int) -> None:
    """Let the weights that `binding` names be the tensors of `checkpoint`, by their names there, each once.

    They are `stored` in an ONNX type; where the graph computes in another (the tracer knows no bfloat16), a node widens
    them. Raises PipelineError when a transposed weight is read by anything but a product, or a tensor has another type
    or shape.
    """
    graph = model.graph
    kinds = {binding[weight.name].tensor: weight.data_type for weight in graph.initializer if weight.name in binding}
    wide = {name: f"{name}.wide" for name, kind in kinds.items() if kind != stored}
    for node in graph.node:
        _read_tensors(node, binding, wide)
    for place, (name, widened) in enumerate(sorted(wide.items())):
        graph.node.insert(place, helper.make_node("Cast", [name], [widened], widened, to=kinds[name]))
    weights: dict[str, TensorProto] = {}
    for weight in graph.initializer:
        bound = binding.get(weight.name)
        if bound is not None:
            weights[bound.tensor] = _external(weight, bound, checkpoint, stored)
    constants = [weight for weight in graph.initializer if weight.name not in binding]
    del graph.initializer[:]
    graph.initializer.extend([*weights.values(), *constants])
    require_domain(model)


def save_graph(model: ModelProto, path: Path) -> None:
    """Write a graph, the same bytes for the same graph."""
    path.write_bytes(model.SerializeToString(deterministic=True))


def require_domain(model: ModelProto) -> None:
    """Let the graph use ONNX Runtime's own operators."""
    if not any(entry.domain == CONTRIB for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid(CONTRIB, 1))


def tensors_of(graph: GraphProto) -> list[TensorProto]:
    """The weights that lie outside the graph."""
    return [weight for weight in graph.initializer if weight.data_location == TensorProto.EXTERNAL]


def _read_tensors(node: NodeProto, binding: dict[str, Bound], wide: dict[str, str]) -> None:
    """Rename what a node reads; a product with a transposed weight reads the tensor as it is."""
    for place, name in enumerate(node.input):
        bound = binding.get(name)
        if bound is None:
            continue
        if bound.transposed:
            if node.op_type != "MatMul" or place != 1:
                raise PipelineError(
                    f"Expected the transposed tensor {bound.tensor} as the second factor of a MatMul, found it at "
                    f"{node.op_type} {node.name}; this architecture cannot run over its checkpoint."
                )
            node.op_type, node.domain = "FusedMatMul", CONTRIB
            node.attribute.append(helper.make_attribute("transB", 1))
        node.input[place] = wide.get(bound.tensor, bound.tensor)


def _external(weight: TensorProto, bound: Bound, checkpoint: Checkpoint, stored: int) -> TensorProto:
    place = checkpoint.place(bound.tensor)
    shape = tuple(weight.dims)[:: -1 if bound.transposed else 1]
    kind = helper.np_dtype_to_tensor_dtype(checkpoint.dtype(bound.tensor))
    if (shape, stored) != (place.shape, kind):
        raise PipelineError(
            f"Expected {bound.tensor} of {checkpoint.path} as {_said(stored, shape)}, found "
            f"{_said(kind, place.shape)}; fetch the model again."
        )
    tensor = TensorProto(
        name=bound.tensor, data_type=kind, dims=place.shape, raw_data=b""
    )  # the helper wants the field
    set_external_data(tensor, location=place.file.name, offset=place.start, length=place.bytes())
    tensor.ClearField("raw_data")
    return tensor


def _said(kind: int, shape: tuple[int, ...]) -> str:
    return f"{helper.tensor_dtype_to_np_dtype(kind)} {list(shape)}"
