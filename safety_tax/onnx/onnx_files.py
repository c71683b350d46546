"""An ONNX graph's external data: it may lie in the graph's own folder and nowhere else.

A graph names the files that hold its weights. ONNX Runtime opens what is named, so a graph from elsewhere could have
it read any file on the machine.
"""

from collections.abc import Iterator
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from safety_tax.core.errors import PipelineError, how_to_have


def require_contained(path: Path) -> None:
    """Raises PipelineError when the graph at `path` is none, or names data outside its folder or beyond a file's end.

    Only the graph is read, never the weights.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
    except DecodeError:
        raise PipelineError(f"Expected an ONNX graph in {path}, found a file that is none; run `dvc repro`.") from None
    except FileNotFoundError:
        raise PipelineError(f"Expected an ONNX graph in {path}, found no such file; {how_to_have()}.") from None
    for tensor in _tensors(model):
        if tensor.external_data or tensor.data_location == TensorProto.EXTERNAL:
            _require_place(tensor, path)


def _require_place(tensor: TensorProto, graph: Path) -> None:
    place = {entry.key: entry.value for entry in tensor.external_data}
    location = place.get("location", "")
    # One name beside the graph: no other folder, no drive, no link that leads out. What is no text comes as bytes.
    plain = isinstance(location, str) and location and Path(location).name == location
    plain = plain and not any(sign in location for sign in "\\:\0")
    file = graph.parent / (location if plain else "")
    if not plain or file.is_symlink():
        raise PipelineError(
            f"Expected {graph} to name weights beside it, found {location!r} for {tensor.name[:80]!r}; "
            "do not use this graph."
        )
    try:
        offset, length = int(place.get("offset", 0)), int(place.get("length", 0))
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0 or not file.is_file() or offset + length > file.stat().st_size:
        raise PipelineError(
            f"Expected {tensor.name[:80]!r} of {graph} in {location}, found bytes {offset:,} to {offset + length:,} "
            f"of {file.stat().st_size if file.is_file() else 0:,}; run `dvc repro`."
        )


def _tensors(model: onnx.ModelProto) -> Iterator[TensorProto]:
    """Every tensor of a model, wherever a graph may hold one."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        for node in function.node:
            yield from _of_node(node)
    for training in model.training_info:
        yield from _of_graph(training.initialization)
        yield from _of_graph(training.algorithm)


def _of_graph(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        yield from _of_node(node)


def _of_node(node: NodeProto) -> Iterator[TensorProto]:
    for attribute in node.attribute:
        yield from _of_attribute(attribute)


def _of_attribute(attribute: AttributeProto) -> Iterator[TensorProto]:
    if attribute.HasField("t"):
        yield attribute.t
    yield from attribute.tensors
    for sparse in [
        *([attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else []),
        *attribute.sparse_tensors,
    ]:
        yield from (sparse.values, sparse.indices)
    for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
        yield from _of_graph(graph)
