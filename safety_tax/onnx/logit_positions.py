"""Logits only where one is wanted: a cut in the traced graph, behind which no token sees another."""

from collections.abc import Container

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from safety_tax.core.errors import PipelineError
from safety_tax.engine.session import LOGIT_POSITIONS
from safety_tax.onnx.graph_pieces import read_by

LOGITS, WANTED = "logits", "wanted_hidden"
# What stands between a head's product and the logits: bias, scale, softcap, another type.
BEHIND_HEAD = ("Add", "Mul", "Div", "Tanh", "Cast", "Identity")
PRODUCTS = ("MatMul", "Gemm")


def add_logit_positions(model: ModelProto) -> None:
    """Go on only where a logit is wanted: `logit_positions`, int64 [batch, wanted], is a new input.

    `logits` becomes [batch, wanted, vocabulary]. It is most of the last layer and the head, a fifth of a small model's
    work; and logits of every position are gigabytes with a large vocabulary.

    Raises PipelineError when the graph does not end in a linear head.
    """
    graph = model.graph
    everywhere = _cut(graph)
    axis = numpy_helper.from_array(np.array([2], np.int64), "logit_positions_axis")
    graph.initializer.append(axis)
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name == everywhere:
                node.input[place] = WANTED
    nodes = [
        helper.make_node("Unsqueeze", [LOGIT_POSITIONS, axis.name], ["logit_indices"], "logit_indices"),
        helper.make_node("GatherND", [everywhere, "logit_indices"], [WANTED], WANTED, batch_dims=1),
    ]
    place = next(place for place, node in enumerate(graph.node) if everywhere in node.output) + 1
    for offset, node in enumerate(nodes):
        graph.node.insert(place + offset, node)
    graph.input.append(helper.make_tensor_value_info(LOGIT_POSITIONS, TensorProto.INT64, ["batch_size", "wanted"]))
    logits = next(output for output in graph.output if output.name == LOGITS)
    logits.type.tensor_type.shape.dim[1].dim_param = "wanted"


def _cut(graph: GraphProto) -> str:
    """The first value that the logits come from alone, and no key or value of a past comes from.

    In most families it is the sum behind the last layer's attention. Where attention and MLP are summed together, or a
    later shape is the input's own (GPT-2), it is nearer to the head: the head's own input at the latest.
    """
    made = {output: node for node in graph.node for output in node.output}
    product = _head(made)
    tokens = {entry.name for entry in graph.input if entry.name.startswith(("input_ids", "attention_mask", "position"))}
    tokens |= {entry.name for entry in graph.input if entry.name.startswith("past_key_values.")}
    pasts = {name for entry in graph.output if entry.name != LOGITS for name in read_before(made, entry.name)}
    ranks = {entry.name: len(entry.type.tensor_type.shape.dim) for entry in graph.value_info}
    before = read_before(made, product.input[0])
    found = str(product.input[0])
    for node in reversed(graph.node):
        value = node.output[0]
        if node.op_type != "Add" or value not in before or ranks.get(value, 3) != 3:
            continue
        if value in pasts:
            break
        if not tokens & read_before(made, LOGITS, {value}):
            found = value
    return found


def _head(made: dict[str, NodeProto]) -> NodeProto:
    """The product that makes the logits. Raises PipelineError when there is none."""
    node = made[LOGITS]
    while node.op_type in BEHIND_HEAD:
        inner = [name for name in node.input if "input_ids" in read_before(made, name)]  # not a bias that is widened
        if len(inner) != 1:
            break
        node = made[inner[0]]
    if node.op_type not in PRODUCTS:
        raise PipelineError(
            f"Expected the graph to end in the product of a linear head, found {node.op_type} at {node.name}; report "
            "this model."
        )
    return node


def read_before(made: dict[str, NodeProto], name: str, behind: Container[str] = ()) -> set[str]:
    """Every value that the value `name` depends on, itself included, but for what comes to it through `behind`."""
    found, waiting = {name}, [name]
    while waiting:
        value = waiting.pop()
        if value in behind or value not in made:
            continue
        new = set(read_by(made[value])) - found
        found |= new
        waiting += new
    return found
