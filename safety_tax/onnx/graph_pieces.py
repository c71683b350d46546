"""A graph run in pieces, one after another, so that few of its weights are in memory at a time.

A session of the whole graph would hold them all, and of a float16 model twice over: ONNX Runtime has no float16
products on a CPU and widens every weight to float32. Here a piece's weights are mapped, used and let go.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper

from safety_tax.core.processors import usable_cores
from safety_tax.engine.session import CPU

PIECE_BYTES = 1 << 27  # of weights; a larger weight has a piece of its own
Values = dict[str, NDArray[Any]]


class Piece(NamedTuple):
    """Nodes that run in one session."""

    nodes: list[NodeProto]
    weights: list[str]
    reads: list[str]
    """Values that a piece before it makes, or inputs of the graph."""
    makes: list[str]
    """Values that a piece after it reads, or outputs of the graph."""


def cut(graph: GraphProto, piece_bytes: int) -> list[Piece]:
    """Every node that an output depends on, in pieces of at most `piece_bytes` of weights where a node allows it."""
    sizes = {weight.name: _bytes(weight) for weight in graph.initializer}
    groups: list[list[NodeProto]] = [[]]
    held: set[str] = set()
    for node in _in_order(graph):
        wanted = held | {name for name in read_by(node) if name in sizes}
        if held and wanted > held and sum(sizes[name] for name in wanted) > piece_bytes:
            groups.append([])
            wanted -= held - set(read_by(node))
        held = wanted
        groups[-1].append(node)
    read = [list(dict.fromkeys(name for node in group for name in read_by(node))) for group in groups]
    made = [[name for node in group for name in node.output if name] for group in groups]
    outputs = {output.name for output in graph.output}
    pieces = []
    for place, group in enumerate(groups):
        elsewhere = outputs.union(*read[:place], *read[place + 1 :])
        pieces.append(
            Piece(
                group,
                [name for name in read[place] if name in sizes],
                [name for name in read[place] if name not in sizes and name not in set(made[place])],
                [name for name in made[place] if name in elsewhere],
            )
        )
    return pieces


def run_in_pieces(path: Path, feeds: list[Values], piece_bytes: int = PIECE_BYTES) -> list[Values]:
    """The outputs of the graph at `path` for every feed, on the CPU; each piece serves all feeds before the next."""
    model = onnx.load(str(path), load_external_data=False)
    pieces = cut(model.graph, piece_bytes)
    outputs = {output.name for output in model.graph.output}
    held = [dict(feed) for feed in feeds]
    for place, piece in enumerate(pieces):
        session = _session(model, piece, held[0], path.parent)
        later = outputs.union(*(after.reads for after in pieces[place + 1 :]))
        for values in held:
            found = session.run(piece.makes, {name: values[name] for name in piece.reads})
            values.update(zip(piece.makes, found, strict=True))
            for name in values.keys() - later:
                del values[name]
    return [{name: values[name] for name in outputs} for values in held]


def _session(model: ModelProto, piece: Piece, example: Values, folder: Path) -> ort.InferenceSession:
    """A session of one piece; its inputs have the types and ranks that `example` has."""
    weights = {weight.name: weight for weight in model.graph.initializer}
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(example[name].dtype), [None] * example[name].ndim
        )
        for name in piece.reads
    ]
    graph = helper.make_graph(
        piece.nodes,
        "piece",
        inputs,
        [helper.make_empty_tensor_value_info(name) for name in piece.makes],
        [weights[name] for name in piece.weights],
    )
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = usable_cores()
    options.enable_cpu_mem_arena = False
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Each would keep a copy of every matrix beside the mapped one.
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder.resolve()))
    return ort.InferenceSession(
        part.SerializeToString(), options, providers=[CPU], disabled_optimizers=["ConstantFolding"]
    )


def _in_order(graph: GraphProto) -> list[NodeProto]:
    """The nodes, each after those it reads from and as late as the first that reads from it allows."""
    nodes = list(graph.node)
    makers = {name: place for place, node in enumerate(nodes) for name in node.output}
    waiting = [makers[output.name] for output in reversed(graph.output)]
    placed: dict[int, None] = {}
    while waiting:
        place = waiting[-1]
        before = [makers[name] for name in read_by(nodes[place]) if name in makers]
        missing = [other for other in before if other not in placed]
        if missing and place not in placed:
            waiting += reversed(missing)
        else:
            placed[waiting.pop()] = None
    return [nodes[place] for place in placed]


def read_by(node: NodeProto) -> Iterator[str]:
    """Names that a node reads, those that its branches take from around them included."""
    yield from filter(None, node.input)
    for attribute in node.attribute:
        for graph in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
            inner = {output for part in graph.node for output in part.output}
            inner |= {entry.name for entry in (*graph.input, *graph.initializer)}
            yield from (name for part in graph.node for name in read_by(part) if name not in inner)


def _bytes(weight: onnx.TensorProto) -> int:
    return int(np.prod(weight.dims, dtype=np.int64)) * helper.tensor_dtype_to_np_dtype(weight.data_type).itemsize
