"""A decoder's graph for a GPU, written node by node: GroupQueryAttention without a bias, and nothing of a size that
leaves the card.

It needs the shape and where each weight lies, no trace: so bfloat16 works, which the tracer does not, and the card kit
writes graphs of any size without PyTorch. Norms are ONNX Runtime's fused ones, which its CPU and CUDA providers share.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from safety_tax.engine.gqa.rows_session import BEST, CHOSEN, COLDNESS, LOGPROBS, POSITIONS, TARGETS, UNIFORMS, WANTED
from safety_tax.engine.gqa.session import LAST_PLACES, TOTAL_LENGTH

FLOAT = TensorProto.FLOAT
IR_VERSION = 10


@dataclass(frozen=True)
class Decoder:
    """What the graph of a decoder depends on, beside its weights; sizes in numbers, `positions` in tokens."""

    layers: int
    width: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int
    positions: int
    epsilon: float
    window: int | None = None


@dataclass
class _Pieces:
    """Nodes so far; a node's first output has its name."""

    kind: int
    weights: Mapping[str, TensorProto]
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: dict[str, TensorProto] = field(default_factory=dict)

    def add(self, operator: str, inputs: Sequence[str], name: str, domain: str = "", **attributes: Any) -> str:
        """Its output."""
        self.nodes.append(helper.make_node(operator, list(inputs), [name], name, domain=domain, **attributes))
        return name

    def constant(self, name: str, values: NDArray[np.generic]) -> str:
        """The name of a constant."""
        self.initializers.setdefault(name, numpy_helper.from_array(values, name))
        return name

    def weight(self, name: str) -> str:
        """A checkpoint's tensor, in the graph's type."""
        tensor = self.weights[name]
        if tensor.name not in self.initializers:
            self.initializers[tensor.name] = tensor
            if tensor.data_type != self.kind:
                self.add("Cast", [tensor.name], f"{tensor.name}.cast", to=self.kind)
        return tensor.name if tensor.data_type == self.kind else f"{tensor.name}.cast"

    def linear(self, hidden: str, layer: str) -> str:
        """A linear layer with its bias, if it has one; its weight lies as the checkpoint's, [out, in]."""
        weight = self.weight(f"{layer}.weight")
        found = self.add("FusedMatMul", [hidden, weight], layer, "com.microsoft", transB=1)
        if f"{layer}.bias" in self.weights:
            found = self.add("Add", [found, self.weight(f"{layer}.bias")], f"{layer}.biased")
        return found

    def norm(self, hidden: str, layer: str, epsilon: float) -> str:
        """Root mean square norm over the last axis."""
        inputs = [hidden, self.weight(f"{layer}.weight")]
        return self.add("SimplifiedLayerNormalization", inputs, layer, axis=-1, epsilon=epsilon, stash_type=1)

    def skip_norm(self, hidden: str, more: str, layer: str, epsilon: float) -> tuple[str, str]:
        """The norm of a sum, and the sum."""
        total = f"{layer}.sum"
        outputs = [layer, "", "", total]
        inputs = [hidden, more, self.weight(f"{layer}.weight")]
        made = helper.make_node("SkipSimplifiedLayerNormalization", inputs, outputs, layer, domain="com.microsoft")
        made.attribute.append(helper.make_attribute("epsilon", epsilon))
        self.nodes.append(made)
        return layer, total


def rows_graph(
    decoder: Decoder,
    kind: int,
    weights: Mapping[str, TensorProto],
    cosines: NDArray[np.float32],
    sines: NDArray[np.float32],
    opset: int,
) -> ModelProto:
    """The graph in ONNX type `kind`, over weights by their checkpoint names (Llama's, Mistral's, Qwen2's or Qwen3's).

    Inputs: `input_ids` int64 [batch, time]; `last_places` int32 [batch], where each row's last new token lies in its
    buffer; `total_length` int32 [1], the longest row's past and new tokens together; `past_key_values.*`
    [batch, key-value heads, capacity, head size], whose memory `present.*` must be bound to. Several new tokens want a
    batch of one. Cosines and sines are [positions, head size / 2]: ONNX Runtime does not rotate beyond them, silently.

    `wanted` int64 [n] are places in the flattened `input_ids`. Of each, `chosen` int64 [n] is the next token: the most
    likely where `coldness` float32 [1] is 0, else the one that `uniforms` float32 [n] draw at a temperature of
    1 / coldness; `best` float32 [n] is the largest log-probability, `logprobs` float32 [n, k] those of `targets`
    int64 [n, k].
    """
    pieces = _Pieces(kind, weights)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    for name, table in (("cosines", cosines), ("sines", sines)):
        pieces.constant(name, table.astype(dtype))
    hidden = pieces.add("Gather", [pieces.weight("model.embed_tokens.weight"), "input_ids"], "embedded", axis=0)
    normed = pieces.norm(hidden, "model.layers.0.input_layernorm", decoder.epsilon)
    for layer in range(decoder.layers):
        name = f"model.layers.{layer}"
        attended = pieces.linear(_attention(pieces, decoder, normed, layer), f"{name}.self_attn.o_proj")
        if layer == decoder.layers - 1:  # no later token sees what follows: from here on, wanted places alone
            hidden, attended = (_wanted(pieces, each, decoder.width) for each in (hidden, attended))
        normed, hidden = pieces.skip_norm(hidden, attended, f"{name}.post_attention_layernorm", decoder.epsilon)
        gate = pieces.linear(normed, f"{name}.mlp.gate_proj")
        sigmoid = pieces.add("Sigmoid", [gate], f"{name}.mlp.sigmoid")
        silu = pieces.add("Mul", [gate, sigmoid], f"{name}.mlp.silu")
        up = pieces.add("Mul", [silu, pieces.linear(normed, f"{name}.mlp.up_proj")], f"{name}.mlp.gated")
        down = pieces.linear(up, f"{name}.mlp.down_proj")
        last = layer == decoder.layers - 1
        following = "model.norm" if last else f"model.layers.{layer + 1}.input_layernorm"
        normed, hidden = pieces.skip_norm(hidden, down, following, decoder.epsilon)
    head = "lm_head" if "lm_head.weight" in weights else "model.embed_tokens"
    logits = pieces.add("Cast", [pieces.linear(normed, head)], "logits", to=FLOAT)
    _choose(pieces, logits, decoder.vocabulary)
    graph = helper.make_graph(
        pieces.nodes, "rows", _inputs(decoder, kind), _outputs(decoder, kind), list(pieces.initializers.values())
    )
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION)
    helper.set_model_props(model, {POSITIONS: str(decoder.positions)})
    return model


def _attention(pieces: _Pieces, decoder: Decoder, normed: str, layer: int) -> str:
    name = f"model.layers.{layer}.self_attn"
    projected = []
    for part, heads in (("q", decoder.heads), ("k", decoder.kv_heads), ("v", decoder.kv_heads)):
        found = pieces.linear(normed, f"{name}.{part}_proj")
        if f"{name}.{part}_norm.weight" in pieces.weights:  # Qwen3's, of each head
            by_head = pieces.constant(f"by_head_{heads}", np.array([0, 0, heads, decoder.head_size], np.int64))
            joined = pieces.constant(f"joined_{heads}", np.array([0, 0, heads * decoder.head_size], np.int64))
            found = pieces.add("Reshape", [found, by_head], f"{name}.{part}_heads")
            found = pieces.norm(found, f"{name}.{part}_norm", decoder.epsilon)
            found = pieces.add("Reshape", [found, joined], f"{name}.{part}_normed")
        projected.append(found)
    places = [f"past_key_values.{layer}.{kind}" for kind in ("key", "value")]
    outputs = [f"{name}.attended", *(f"present.{layer}.{kind}" for kind in ("key", "value"))]
    pieces.nodes.append(
        helper.make_node(
            "GroupQueryAttention",
            [*projected, *places, LAST_PLACES, TOTAL_LENGTH, "cosines", "sines"],
            outputs,
            outputs[0],
            domain="com.microsoft",
            num_heads=decoder.heads,
            kv_num_heads=decoder.kv_heads,
            do_rotary=1,
            local_window_size=decoder.window or -1,
        )
    )
    return outputs[0]


def _wanted(pieces: _Pieces, hidden: str, width: int) -> str:
    """[batch, time, width] -> [n, width]."""
    flat = pieces.constant("flat", np.array([-1, width], np.int64))
    return pieces.add(
        "Gather", [pieces.add("Reshape", [hidden, flat], f"{hidden}.flat"), WANTED], f"{hidden}.wanted", axis=0
    )


def _choose(pieces: _Pieces, logits: str, vocabulary: int) -> None:
    """`best`, `logprobs`, and as the last node the chosen token, from float32 logits [n, vocabulary]."""
    add, constant = pieces.add, pieces.constant
    last = constant("last_axis", np.array([1], np.int64))
    logprobs = add("LogSoftmax", [logits], "all_logprobs", axis=-1)
    add("GatherElements", [logprobs, TARGETS], LOGPROBS, axis=1)
    likeliest = add("ArgMax", [logits], "likeliest", axis=1, keepdims=1)
    add("Squeeze", [add("GatherElements", [logprobs, likeliest], "best_of_each", axis=1), last], BEST)
    # The inverse of the distribution function in two steps, groups of tokens and the tokens of one: CUDA's CumSum walks
    # along its axis with a single thread.
    size = int(np.ceil(np.sqrt(vocabulary)))
    groups = -(-vocabulary // size)
    weights = add("Softmax", [add("Mul", [logits, COLDNESS], "cold_logits")], "weights", axis=-1)
    padding = constant("padding", np.array([0, 0, 0, groups * size - vocabulary], np.int64))
    padded = add("Pad", [weights, padding], "padded_weights")
    shape = constant("in_groups", np.array([0, groups, size], np.int64))
    in_groups = add("Reshape", [padded, shape], "weights_in_groups")
    sums = add("ReduceSum", [in_groups, constant("group_axis", np.array([2], np.int64))], "group_sums", keepdims=0)
    axis = constant("cumulative_axis", np.array(1, np.int64))
    ends = add("CumSum", [sums, axis], "group_ends")
    total = add("Gather", [ends, constant("last_group", np.array([groups - 1], np.int64))], "total", axis=1)
    uniforms = add("Unsqueeze", [UNIFORMS, last], "uniforms_of_rows")
    sought = _below(pieces, add("Mul", [uniforms, total], "sought_anywhere"), total, "sought")
    group = _count_until(pieces, ends, sought, groups, "group")
    end = add("GatherElements", [ends, group], "group_end", axis=1)
    start = add("Sub", [end, add("GatherElements", [sums, group], "group_sum", axis=1)], "group_start")
    of_group = add("GatherND", [in_groups, group], "weights_of_group", batch_dims=1)
    within = add("CumSum", [of_group, axis], "token_ends")
    # Two sums of a group differ in their last bits: without the bounds a token of no probability could be drawn there.
    rest = add(
        "Max", [add("Sub", [sought, start], "rest"), constant("nothing", np.array(0, np.float32))], "rest_within"
    )
    whole = add("Gather", [within, constant("last_token_of_group", np.array([size - 1], np.int64))], "whole", axis=1)
    place = _count_until(pieces, within, _below(pieces, rest, whole, "sought_within"), size, "place")
    offset = add("Mul", [group, constant("group_size", np.array(size, np.int64))], "group_offset")
    summed = add("Add", [offset, place], "drawn_anywhere")
    drawn = add("Min", [summed, constant("last_token", np.array(vocabulary - 1, np.int64))], "drawn")
    is_drawn = add("Greater", [COLDNESS, constant("nothing", np.array(0, np.float32))], "is_drawn")
    add("Squeeze", [add("Where", [is_drawn, drawn, likeliest], "chosen_of_each"), last], CHOSEN)


def _below(pieces: _Pieces, sought: str, end: str, name: str) -> str:
    """`sought`, or the largest number below `end` where it is not below it; both float32 [n, 1]."""
    just_below = pieces.constant("just_below", np.array(1 - 2**-23, np.float32))
    return pieces.add("Min", [sought, pieces.add("Mul", [end, just_below], f"{name}_most")], name)


def _count_until(pieces: _Pieces, ends: str, sought: str, most: int, name: str) -> str:
    """int64 [n, 1]: how many of `ends` [n, m] lie at or before `sought` [n, 1], at most `most` − 1."""
    before = pieces.add("LessOrEqual", [ends, sought], f"{name}_before")
    numbers = pieces.add("Cast", [before], f"{name}_ones", to=FLOAT)
    axis = pieces.constant("last_axis", np.array([1], np.int64))
    count = pieces.add("ReduceSum", [numbers, axis], f"{name}_count", keepdims=1)
    whole = pieces.add("Cast", [count], f"{name}_whole", to=TensorProto.INT64)
    return pieces.add("Min", [whole, pieces.constant(f"{name}_most", np.array(most - 1, np.int64))], name)


def _buffers(decoder: Decoder, kind: int, prefix: str) -> list[ValueInfoProto]:
    shape: list[str | int] = ["batch", decoder.kv_heads, "capacity", decoder.head_size]
    return [
        helper.make_tensor_value_info(f"{prefix}.{layer}.{part}", kind, shape)
        for layer in range(decoder.layers)
        for part in ("key", "value")
    ]


def _inputs(decoder: Decoder, kind: int) -> list[ValueInfoProto]:
    value, int64, int32 = helper.make_tensor_value_info, TensorProto.INT64, TensorProto.INT32
    return [
        value("input_ids", int64, ["batch", "time"]),
        value(LAST_PLACES, int32, ["batch"]),
        value(TOTAL_LENGTH, int32, [1]),
        value(WANTED, int64, ["wanted"]),
        value(TARGETS, int64, ["wanted", "targets"]),
        value(UNIFORMS, FLOAT, ["wanted"]),
        value(COLDNESS, FLOAT, [1]),
        *_buffers(decoder, kind, "past_key_values"),
    ]


def _outputs(decoder: Decoder, kind: int) -> list[ValueInfoProto]:
    value = helper.make_tensor_value_info
    return [
        value(CHOSEN, TensorProto.INT64, ["wanted"]),
        value(BEST, FLOAT, ["wanted"]),
        value(LOGPROBS, FLOAT, ["wanted", "targets"]),
        *_buffers(decoder, kind, "present"),
    ]
