"""A second graph over the same weights, each layer's attention GroupQueryAttention nodes of ONNX Runtime.

The traced graph copies the whole past at every step and repeats every key and value head for the query heads
that share it. The operator (`com.microsoft`, documented with ONNX Runtime's contrib operators) does neither: it writes
new keys and values into the past's own buffer, and rotates queries and keys itself.
"""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from transformers import AutoConfig, PretrainedConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from safety_tax.engine.gqa.prefix_tree import Unit, packs
from safety_tax.engine.gqa.session import (
    BLOCK_LENGTHS,
    BLOCKS,
    GROUPED_GRAPH,
    IN_BLOCKS,
    NODE_INPUTS,
    WINDOW_BIAS,
    TreeSession,
    of_block,
)
from safety_tax.engine.session import GRAPH
from safety_tax.model_files.attention import INTERLEAVED, attention_of, cap_of, head_of, turned_of, turns
from safety_tax.onnx.graph_pieces import read_by
from safety_tax.onnx.projections import Projections

# How many tokens beyond the model's positions a pack may have; `run.pass_tokens` allows no larger pass.
ROOM = 4096
TABLES = ("rotary_cosines", "rotary_sines")
WINDOW_TABLES = ("window_cosines", "window_sines")


def rotary_tables(config: PretrainedConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and sines, float32 [positions and room, rotated numbers / 2] each, as Transformers computes them.

    The operator refuses more keys than the tables have rows, and a pack of several items may have more tokens than the
    model has positions: rows of zeros make room, which no token's position reads.
    """
    # Llama's class serves all: the angles depend on the configuration alone, and where half of a head takes each angle
    # once, those of an interleaved head are the same.
    rotary = LlamaRotaryEmbedding(config)  # type: ignore[arg-type]  # annotated for Llama's alone
    positions = torch.arange(attention_of(config).context)[None]
    cosines, sines = rotary(torch.zeros(1), positions)
    half = cosines.shape[-1] // 2
    room = np.zeros((1 + ROOM, half), np.float32)
    filled, other = (np.concatenate([table[0, :, :half].float().numpy(), room]) for table in (cosines, sines))
    return filled, other


def in_windows(config: PretrainedConfig) -> PretrainedConfig:
    """The configuration by which layers with a window rotate: Gemma-3 and OLMo-3 scale the others' angles alone."""
    if config.model_type not in ("gemma3_text", "olmo3"):
        return config
    theta = getattr(config, "rope_local_base_freq", config.rope_theta)
    if config.rope_scaling is None and config.rope_theta == theta:
        return config
    own = copy.deepcopy(config)
    own.rope_scaling, own.rope_theta = None, theta
    return own


def use_grouped_query_attention(model: onnx.ModelProto, config: PretrainedConfig) -> None:
    """Replace every layer's attention; drop what nothing reads any more.

    Inputs become `input_ids` and `position_ids` [batch, time]; `last_places` int32 [batch], where each row's last token
    lies in its buffer; `total_length` int32 [1], the longest row's past and new tokens together; `attention_bias`
    [batch or 1, 1, time, total], added to the scores; and `past_key_values.*` [batch, key-value heads, capacity, head
    size]. Where `in_blocks` is true, the tokens of a single row are cut into stretches of `block_lengths`, and each has
    `position_ids`, `last_places`, `total_length` and `attention_bias` of its own, behind `block_N.`: it begins anywhere
    in the buffer and reads what those before it wrote. All `block_N.present.*` must be bound to the memory of
    `past_key_values.*`. ONNX Runtime 1.31 rotates by `position_ids` only where there is a past, and takes several rows
    with a past only one token at a time. A sliding window is the caller's, in the bias; where some layers have one and
    others none, theirs is `window_bias`. Keys come out scaled where all of them is rotated.

    Raises PipelineError when a layer's projections are not where Optimum puts them.
    """
    graph = model.graph
    made = {output: node for node in graph.node for output in node.output}
    projections = Projections(graph)
    past_type = next(entry for entry in graph.input if entry.name.startswith("past_key_values.")).type.tensor_type
    dtype = helper.tensor_dtype_to_np_dtype(past_type.elem_type)
    windows = attention_of(config).windows
    mixed = len(set(windows)) > 1
    # Granite and Gemma have the factor of the scores as a setting.
    scale = getattr(config, "attention_multiplier", None)
    scale = scale or (getattr(config, "query_pre_attn_scalar", None) or head_of(config)) ** -0.5
    # Queries and keys, both turned by these tables, share the scale of their product: where the operator has none to
    # apply, ONNX Runtime takes its faster kernel for one new token a row. What is not turned would not be scaled.
    all_turned = turned_of(config) == head_of(config) and all(turns(config, layer) for layer in range(len(windows)))
    share, scale = (scale**0.5, 1.0) if all_turned else (1.0, scale)
    everywhere = in_windows(config) if None not in windows else config
    tables = {TABLES: everywhere} | ({WINDOW_TABLES: in_windows(config)} if mixed else {})
    for names, of in tables.items():
        for name, table in zip(names, rotary_tables(of), strict=True):
            graph.initializer.append(numpy_helper.from_array((table * share).astype(dtype), name))
    for layer in range(config.num_hidden_layers):
        attention = f"/model/layers.{layer}/self_attn"
        projected = projections.of(attention)
        out = projections.node(f"{attention}/o_proj/MatMul")
        for kind in ("key", "value"):
            made[f"present.{layer}.{kind}"].output[0] = f"present.{layer}.{kind}.unread"
        node = _either(
            projected, f"{attention}/output", Attended(config, layer, scale, mixed and windows[layer] is not None)
        )
        for made_here in (*projections.take_added(), node):
            graph.node.insert(list(graph.node).index(out), made_here)
        out.input[0] = node.output[0]
    for entry in [entry for entry in graph.input if entry.name in ("attention_mask", "position_ids")]:
        graph.input.remove(entry)
    value = helper.make_tensor_value_info
    graph.input.extend([value(IN_BLOCKS, TensorProto.BOOL, []), value(BLOCK_LENGTHS, TensorProto.INT64, [BLOCKS])])
    for prefix in ("", *(of_block("", block) for block in range(BLOCKS))):
        rows: str | int = 1 if prefix else "batch_size"
        time = f"{prefix}sequence_length"
        shapes: tuple[tuple[int, list[str | int]], ...] = (
            (TensorProto.INT64, [rows, time]),
            (TensorProto.INT32, [rows]),
            (TensorProto.INT32, [1]),
            (past_type.elem_type, [f"{prefix}bias_batch", 1, time, f"{prefix}total"]),
        )
        named = [*zip(NODE_INPUTS, shapes, strict=True), *([(WINDOW_BIAS, shapes[-1])] if mixed else [])]
        for name, (number_type, shape) in named:
            graph.input.append(value(f"{prefix}{name}", number_type, shape))
    for entry in (*graph.input, *graph.output):
        if entry.name.startswith(("past_key_values.", "present.")):
            entry.type.tensor_type.shape.dim[2].dim_param = "capacity"
    presents = [entry for entry in graph.output if entry.name.startswith("present.")]
    for entry in presents:
        graph.output.remove(entry)
        for block in range(BLOCKS):
            graph.output.append(onnx.ValueInfoProto(name=of_block(entry.name, block), type=entry.type))
    _drop_unread(graph)
    del graph.value_info[:]
    if not any(entry.domain == "com.microsoft" for entry in model.opset_import):
        model.opset_import.append(helper.make_opsetid("com.microsoft", 1))


class Attended(NamedTuple):
    """A layer's attention."""

    config: PretrainedConfig
    layer: int
    scale: float
    """Of the scores."""
    windowed: bool
    """Whether it has a window, and others have none."""


def _either(projected: Sequence[str], output: str, of: Attended) -> onnx.NodeProto:
    """A layer's attention: block by block, one after another in the same buffer, or one node for all tokens."""
    presents = [name for block in range(BLOCKS) for name in _presents(of.layer, block)]
    return helper.make_node(
        "If",
        [IN_BLOCKS],
        [output, *presents],
        f"/model/layers.{of.layer}/self_attn/attention",
        then_branch=_by_block(projected, of),
        else_branch=_at_once(projected, of),
    )


def _by_block(projected: Sequence[str], of: Attended) -> onnx.GraphProto:
    layer = of.layer
    names = [[f"{of_block(kind, block)}.{layer}" for kind in ("q", "k", "v", "attended")] for block in range(BLOCKS)]
    *parts, attended = zip(*names, strict=True)
    nodes = [
        helper.make_node("Split", [whole, BLOCK_LENGTHS], part, f"split_{place}", axis=1)
        for place, (whole, part) in enumerate(zip(projected, parts, strict=True))
    ]
    past, presents = _pasts(layer), list[str]()
    for block, (*part, made) in enumerate(names):
        present = [f"{name}.by_block" for name in _presents(layer, block)]
        nodes.append(_attention(of, part, past, of_block("", block), [made, *present]))
        past, presents = present, presents + present
    nodes.append(helper.make_node("Concat", attended, [f"attended.{layer}"], "join", axis=1))
    return _branch("by_block", nodes, [f"attended.{layer}", *presents])


def _at_once(projected: Sequence[str], of: Attended) -> onnx.GraphProto:
    presents = [[f"{name}.at_once" for name in _presents(of.layer, block)] for block in range(BLOCKS)]
    attended = f"attended.{of.layer}.at_once"
    nodes = [_attention(of, projected, _pasts(of.layer), "", [attended, *presents[0]])]
    # An If's branches have the same outputs. These are the first one's memory: nothing is copied.
    nodes += [
        helper.make_node("Identity", [source], [same], same)
        for others in presents[1:]
        for source, same in zip(presents[0], others, strict=True)
    ]
    return _branch("at_once", nodes, [attended, *(name for pair in presents for name in pair)])


def _attention(
    of: Attended, part: Sequence[str], past: Sequence[str], prefix: str, outputs: Sequence[str]
) -> onnx.NodeProto:
    positions, *places, bias = (f"{prefix}{name}" for name in NODE_INPUTS)
    config, turned = of.config, turns(of.config, of.layer)
    tables = (WINDOW_TABLES if of.windowed else TABLES) if turned else ("", "")
    # Absent where they are 0, which is what the operator takes then.
    interleaved = {"rotary_interleaved": 1} if config.model_type in INTERLEAVED else {}
    attributes: dict[str, Any] = interleaved | ({"softcap": cap_of(config)} if cap_of(config) else {})
    return helper.make_node(
        "GroupQueryAttention",
        [*part, *past, *places, *tables, positions, f"{prefix}{WINDOW_BIAS}" if of.windowed else bias],
        outputs,
        outputs[0],
        domain="com.microsoft",
        num_heads=config.num_attention_heads,
        kv_num_heads=config.num_key_value_heads,
        do_rotary=int(turned),
        scale=of.scale,
        **attributes,
    )


def _branch(name: str, nodes: list[onnx.NodeProto], outputs: list[str]) -> onnx.GraphProto:
    return helper.make_graph(nodes, name, [], [helper.make_empty_tensor_value_info(output) for output in outputs])


def _pasts(layer: int) -> list[str]:
    return [f"past_key_values.{layer}.{kind}" for kind in ("key", "value")]


def _presents(layer: int, block: int) -> list[str]:
    return [of_block(f"present.{layer}.{kind}", block) for kind in ("key", "value")]


def write_grouped_graph(folder: Path) -> None:
    """Write `grouped.onnx` beside the `model.onnx` of `folder`, over the same weights."""
    model = onnx.load(str(folder / GRAPH), load_external_data=False)
    use_grouped_query_attention(model, AutoConfig.from_pretrained(folder))
    (folder / GROUPED_GRAPH).write_bytes(model.SerializeToString(deterministic=True))


def _drop_unread(graph: onnx.GraphProto) -> None:
    """Remove the nodes and weights that no output depends on."""
    made = {output: node for node in graph.node for output in node.output}
    waiting = [output.name for output in graph.output]
    read: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name in read:
            continue
        read.add(name)
        if name in made:
            waiting += read_by(made[name])
    kept = [node for node in graph.node if any(output in read for output in node.output)]
    del graph.node[:]
    graph.node.extend(kept)
    weights = [weight for weight in graph.initializer if weight.name in read]
    del graph.initializer[:]
    graph.initializer.extend(weights)


def grouped_logits(folder: Path, prompts: list[list[int]]) -> list[NDArray[np.float32]]:
    """Logits [time, vocabulary] of the grouped graph of `folder` on the CPU, for all after what the prompts share.

    It gets all prompts as one tree after what they share, and each one's last token as its own step.
    """
    grouped = TreeSession(folder)
    units = [Unit([prompt[:-1]], len(prompt) - 2) for prompt in prompts]
    tokens = sum(map(len, prompts))
    (pack,) = packs(units, tokens)
    (of_tree,) = grouped.run_packs([(pack, range(len(pack.tokens)))], tokens)
    cache = grouped.cache(len(prompts), max(map(len, prompts)))
    for row, (path,) in enumerate(pack.paths):
        grouped.copy_path(pack, path, cache, row)
    in_order = [prompts[unit] for unit in pack.units]
    last, before = np.array([prompt[-1] for prompt in in_order]), np.array([len(prompt) - 1 for prompt in in_order])
    of_step = grouped.step(cache, last, before)
    found = {
        unit: np.concatenate([of_tree[path], of_step[row : row + 1]])
        for row, (unit, (path,)) in enumerate(zip(pack.units, pack.paths, strict=True))
    }
    return [found[unit].astype(np.float32) for unit in range(len(prompts))]
