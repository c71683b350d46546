"""The rows graph of an exported model: over the weights of its traced graph, gated against PyTorch on the CPU."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from transformers import AutoConfig, PretrainedConfig

from safety_tax.core.errors import PipelineError
from safety_tax.engine.gqa.rows_session import COLDNESS, LOGPROBS, ROWS_GRAPH, TARGETS, UNIFORMS, WANTED
from safety_tax.engine.gqa.session import LAST_PLACES, TOTAL_LENGTH
from safety_tax.engine.session import GRAPH, Float
from safety_tax.model_files.attention import activation_of, attention_of, cap_of, head_of, turns
from safety_tax.onnx.graph_pieces import Values, run_in_pieces
from safety_tax.onnx.grouped_query import in_windows, rotary_tables
from safety_tax.onnx.over_checkpoint import save_graph, tensors_of
from safety_tax.onnx.rows_graph import Decoder, rows_graph

RANKS = 16


def write_rows_graph(folder: Path) -> None:
    """Write `rows.onnx` beside the `model.onnx` of `folder`, in the type of its weights and over the same data.

    Raises PipelineError when the model has weights that the graph does not read.
    """
    save_rows_graph(folder, None, folder / ROWS_GRAPH)


def save_rows_graph(folder: Path, kind: int | None, path: Path, positions: int | None = None) -> None:
    """The same, in another type than the weights', and for fewer positions than the model's, where these are given."""
    traced = onnx.load(str(folder / GRAPH), load_external_data=False)
    weights = {tensor.name: tensor for tensor in tensors_of(traced.graph)}
    config = AutoConfig.from_pretrained(folder)
    decoder = decoder_of(config, weights["model.embed_tokens.weight"].dims[0])
    decoder = replace(decoder, positions=min(decoder.positions, positions or decoder.positions))
    known = {entry.version for entry in traced.opset_import if entry.domain == ""}
    own = weights["model.embed_tokens.weight"].data_type
    apart = in_windows(config)
    tables, others = (_within(decoder, each) for each in (config, apart))
    model = rows_graph(decoder, kind or own, weights, *tables, max(known), None if apart is config else others)
    if unread := sorted(weights.keys() - {tensor.name for tensor in model.graph.initializer}):
        raise PipelineError(
            f"Expected layers that are written node by node in {folder}, found {unread[0]}, which is not read; set "
            "export.grouped_query to false in params.yaml for this architecture."
        )
    save_graph(model, path)


def _within(decoder: Decoder, config: PretrainedConfig) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines and sines of the positions that the decoder has, and no more."""
    cosines, sines = rotary_tables(config)
    return cosines[: decoder.positions], sines[: decoder.positions]


def decoder_of(config: PretrainedConfig, vocabulary: int) -> Decoder:
    """The shape of the model of a configuration that is not `unwritten`."""
    attention = attention_of(config)
    gemma, granite = config.model_type.startswith("gemma"), config.model_type == "granite"
    query = getattr(config, "query_pre_attn_scalar", None)
    return Decoder(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_size=head_of(config),
        vocabulary=vocabulary,
        positions=attention.context,
        epsilon=config.rms_norm_eps,
        windows=attention.windows,
        turns=tuple(turns(config, layer) for layer in range(config.num_hidden_layers)),
        score_factor=config.attention_multiplier if granite else query**-0.5 if query else None,
        score_cap=cap_of(config),
        norms_add_one=gemma,
        activation=activation_of(config),
        embedding_factor=config.hidden_size**0.5 if gemma else config.embedding_multiplier if granite else 1.0,
        residual_factor=config.residual_multiplier if granite else 1.0,
        logit_factor=1 / config.logits_scaling if granite else 1.0,
        logit_cap=getattr(config, "final_logit_softcapping", None) or 0.0,
    )


def rows_difference(folder: Path, prompts: list[list[int]], expected: list[Float]) -> float:
    """The largest difference, in nats, of `rows.onnx` of `folder` from log-probabilities [time, vocabulary] of prompts.

    It computes in float32 on the CPU, whatever the type of its weights, with a prompt's first half as past. Asked for
    are the most and the least likely token of each place, and some between.
    """
    path = folder / f"float32.{ROWS_GRAPH}"
    save_rows_graph(folder, TensorProto.FLOAT, path, max(map(len, prompts)))
    try:
        return max(_difference(path, prompt, of_prompt) for prompt, of_prompt in zip(prompts, expected, strict=True))
    finally:
        path.unlink()


def _difference(path: Path, prompt: list[int], expected: Float) -> float:
    ranks = np.linspace(0, expected.shape[1] - 1, RANKS).astype(np.int64)
    targets = np.argsort(-expected, axis=-1, kind="stable")[:, ranks]
    buffers: Values = {}
    for entry in onnx.load(str(path), load_external_data=False).graph.input:
        if entry.name.startswith("past_key_values."):
            shape = [dimension.dim_value for dimension in entry.type.tensor_type.shape.dim]
            buffers[entry.name] = np.zeros((1, shape[1], len(prompt), shape[3]), np.float32)
    half, worst = len(prompt) // 2, 0.0
    for start, end in ((0, half), (half, len(prompt))):
        places = np.arange(end - start, dtype=np.int64)
        feed: Values = buffers | {
            "input_ids": np.array([prompt[start:end]], np.int64),
            LAST_PLACES: np.array([end - 1], np.int32),
            TOTAL_LENGTH: np.array([end], np.int32),
            WANTED: places,
            TARGETS: targets[start:end],
            UNIFORMS: np.zeros(end - start, np.float32),
            COLDNESS: np.zeros(1, np.float32),
        }
        (found,) = run_in_pieces(path, [feed])
        difference = np.abs(found[LOGPROBS] - np.take_along_axis(expected[start:end], targets[start:end], axis=-1))
        worst = max(worst, float(difference.max())) if np.isfinite(difference).all() else float("inf")
        buffers = {name: found[name.replace("past_key_values", "present")] for name in buffers}
    return worst
