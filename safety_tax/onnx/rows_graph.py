"""A decoder's graph for a GPU, written node by node: GroupQueryAttention without a bias, and nothing of a size that
leaves the card.

It needs the shape and where each weight lies, no trace: so bfloat16 works, which the tracer does not, and the card kit
writes graphs of any size without PyTorch. Norms are ONNX Runtime's fused ones, which its CPU and CUDA providers share.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, ValueInfoProto, helper

from safety_tax.engine.gqa.rows_session import BEST, CHOSEN, COLDNESS, LOGPROBS, POSITIONS, TARGETS, UNIFORMS, WANTED
from safety_tax.engine.gqa.session import LAST_PLACES, TOTAL_LENGTH
from safety_tax.onnx.rows_pieces import Pieces
from safety_tax.onnx.token_choice import choose

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
    windows: tuple[int | None, ...] = ()
    """Tokens that each layer sees, the one that looks included; None sees all, and so do all without a tuple."""
    turns: tuple[bool, ...] = ()
    """Whether each layer rotates; all do without a tuple."""
    score_factor: float | None = None
    """Of queries times keys; None is head size ** -0.5."""
    score_cap: float = 0.0
    """Scores are `cap * tanh(score / cap)`; 0: they are as they are. So with `logit_cap`."""
    norms_add_one: bool = False
    """A norm multiplies by 1 + weight."""
    activation: str = "silu"
    """`silu`, or `gelu_pytorch_tanh`."""
    embedding_factor: float = 1.0
    residual_factor: float = 1.0
    logit_factor: float = 1.0
    logit_cap: float = 0.0


def rows_graph(
    decoder: Decoder,
    kind: int,
    weights: Mapping[str, TensorProto],
    cosines: NDArray[np.float32],
    sines: NDArray[np.float32],
    opset: int,
    in_windows: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None,
) -> ModelProto:
    """The graph in ONNX type `kind`, over weights by their checkpoint names.

    What the weights are called says how a layer is built: norms before its two parts (Llama), behind them (OLMo-2) or
    both (Gemma-2); norms of queries and keys, by head (Qwen3) or of all heads (OLMo-2); three projections or one
    (Phi-3).

    Inputs: `input_ids` int64 [batch, time]; `last_places` int32 [batch], where each row's last new token lies in its
    buffer; `total_length` int32 [1], the longest row's past and new tokens together; `past_key_values.*`
    [batch, key-value heads, capacity, head size], whose memory `present.*` must be bound to. Several new tokens want a
    batch of one. Cosines and sines are [positions, rotated numbers / 2]: ONNX Runtime does not rotate beyond them,
    silently; `in_windows` are those of layers with a window, where they are others.

    `wanted` int64 [n] are places in the flattened `input_ids`. Of each, `chosen` int64 [n] is the next token: the most
    likely where `coldness` float32 [1] is 0, else the one that `uniforms` float32 [n] draw at a temperature of
    1 / coldness; `best` float32 [n] is the largest log-probability, `logprobs` float32 [n, k] those of `targets`
    int64 [n, k].
    """
    pieces = Pieces(kind, weights)
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    tables = {"cosines": cosines, "sines": sines}
    if in_windows is not None:
        tables |= dict(zip(("window_cosines", "window_sines"), in_windows, strict=True))
    for name, table in tables.items():
        pieces.constant(name, table.astype(dtype))
    one, epsilon = decoder.norms_add_one, decoder.epsilon
    hidden = pieces.add("Gather", [pieces.weight("model.embed_tokens.weight"), "input_ids"], "embedded", axis=0)
    rounded = float(np.array(decoder.embedding_factor, dtype))  # Gemma's is a number of the model's type
    normed = hidden = pieces.times(hidden, rounded, "embedded.scaled")
    before = "model.layers.0.input_layernorm.weight" in weights
    if before:
        normed = pieces.norm(hidden, "model.layers.0.input_layernorm", epsilon, one)
    for layer in range(decoder.layers):
        name, last = f"model.layers.{layer}", layer == decoder.layers - 1
        attended = _attention(pieces, decoder, normed, layer, in_windows is not None)
        attended = pieces.linear(attended, f"{name}.self_attn.o_proj")
        if last:  # no later token sees what follows: from here on, wanted places alone
            hidden, attended = (_wanted(pieces, each, decoder.width) for each in (hidden, attended))
        behind = f"{name}.post_feedforward_layernorm.weight" in weights
        inner: str | None = f"{name}.post_attention_layernorm"  # Llama's name for the norm before the second part
        if behind:
            attended = pieces.norm(attended, f"{name}.post_attention_layernorm", epsilon, one)
            inner = f"{name}.pre_feedforward_layernorm" if before else None
        attended = pieces.times(attended, decoder.residual_factor, f"{name}.self_attn.scaled")
        normed, hidden = pieces.add_and_norm(hidden, attended, inner, epsilon, one)
        down = pieces.linear(_gated(pieces, decoder, normed, f"{name}.mlp"), f"{name}.mlp.down_proj")
        if behind:
            down = pieces.norm(down, f"{name}.post_feedforward_layernorm", epsilon, one)
        down = pieces.times(down, decoder.residual_factor, f"{name}.mlp.scaled")
        following = f"model.layers.{layer + 1}.input_layernorm" if before else None
        normed, hidden = pieces.add_and_norm(hidden, down, "model.norm" if last else following, epsilon, one)
    head = "lm_head" if "lm_head.weight" in weights else "model.embed_tokens"
    logits = pieces.add("Cast", [pieces.linear(normed, head)], "logits", to=FLOAT)
    if decoder.logit_factor != 1:
        factor = pieces.constant("logit_factor", np.array(decoder.logit_factor, np.float32))
        logits = pieces.add("Mul", [logits, factor], "logits.scaled")
    if decoder.logit_cap:
        cap = pieces.constant("logit_cap", np.array(decoder.logit_cap, np.float32))
        bent = pieces.add("Tanh", [pieces.add("Div", [logits, cap], "logits.share")], "logits.bent")
        logits = pieces.add("Mul", [bent, cap], "logits.capped")
    choose(pieces, logits, decoder.vocabulary)
    graph = helper.make_graph(
        pieces.nodes, "rows", _inputs(decoder, kind), _outputs(decoder, kind), list(pieces.initializers.values())
    )
    domains = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=IR_VERSION)
    helper.set_model_props(model, {POSITIONS: str(decoder.positions)})
    return model


def _gated(pieces: Pieces, decoder: Decoder, normed: str, name: str) -> str:
    """What the second part of a layer hands to its last product."""
    if f"{name}.gate_up_proj.weight" in pieces.weights:
        inner = pieces.weights[f"{name}.gate_up_proj.weight"].dims[0] // 2
        gate, up = pieces.parts(pieces.linear(normed, f"{name}.gate_up_proj"), [inner, inner])
    else:
        gate, up = (pieces.linear(normed, f"{name}.{part}_proj") for part in ("gate", "up"))
    if decoder.activation == "silu":
        active = pieces.add("Mul", [gate, pieces.add("Sigmoid", [gate], f"{name}.sigmoid")], f"{name}.silu")
    else:
        active = pieces.add("FastGelu", [gate], f"{name}.gelu", "com.microsoft")
    return pieces.add("Mul", [active, up], f"{name}.gated")


def _attention(pieces: Pieces, decoder: Decoder, normed: str, layer: int, windows_apart: bool) -> str:
    name = f"model.layers.{layer}.self_attn"
    heads = {"q": decoder.heads, "k": decoder.kv_heads, "v": decoder.kv_heads}
    if f"{name}.qkv_proj.weight" in pieces.weights:
        sizes = [decoder.head_size * count for count in heads.values()]
        projected = pieces.parts(pieces.linear(normed, f"{name}.qkv_proj"), sizes)
    else:
        projected = [pieces.linear(normed, f"{name}.{part}_proj") for part in heads]
    for place, (part, count) in enumerate(heads.items()):
        if f"{name}.{part}_norm.weight" in pieces.weights:
            projected[place] = _norm_of_heads(pieces, decoder, projected[place], f"{name}.{part}", count)
    window = decoder.windows[layer] if decoder.windows else None
    turns = decoder.turns[layer] if decoder.turns else True
    tables = ["window_cosines", "window_sines"] if windows_apart and window is not None else ["cosines", "sines"]
    places = [f"past_key_values.{layer}.{kind}" for kind in ("key", "value")]
    outputs = [f"{name}.attended", *(f"present.{layer}.{kind}" for kind in ("key", "value"))]
    attributes: dict[str, Any] = {} if decoder.score_factor is None else {"scale": decoder.score_factor}
    attributes |= {"softcap": decoder.score_cap} if decoder.score_cap else {}
    pieces.nodes.append(
        helper.make_node(
            "GroupQueryAttention",
            [*projected, *places, LAST_PLACES, TOTAL_LENGTH, *(tables if turns else [])],
            outputs,
            outputs[0],
            domain="com.microsoft",
            num_heads=decoder.heads,
            kv_num_heads=decoder.kv_heads,
            do_rotary=int(turns),
            local_window_size=window or -1,
            **attributes,
        )
    )
    return outputs[0]


def _norm_of_heads(pieces: Pieces, decoder: Decoder, projected: str, name: str, heads: int) -> str:
    """The norm of queries or keys: of each head where its weight is a head's, else of all together."""
    size, one = decoder.head_size, decoder.norms_add_one
    if pieces.weights[f"{name}_norm.weight"].dims[0] != size:
        return pieces.norm(projected, f"{name}_norm", decoder.epsilon, one)
    by_head = pieces.constant(f"by_head_{heads}", np.array([0, 0, heads, size], np.int64))
    joined = pieces.constant(f"joined_{heads}", np.array([0, 0, heads * size], np.int64))
    found = pieces.add("Reshape", [projected, by_head], f"{name}_heads")
    found = pieces.norm(found, f"{name}_norm", decoder.epsilon, one)
    return pieces.add("Reshape", [found, joined], f"{name}_normed")


def _wanted(pieces: Pieces, hidden: str, width: int) -> str:
    """[batch, time, width] -> [n, width]."""
    flat = pieces.constant("flat", np.array([-1, width], np.int64))
    return pieces.add(
        "Gather", [pieces.add("Reshape", [hidden, flat], f"{hidden}.flat"), WANTED], f"{hidden}.wanted", axis=0
    )


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
