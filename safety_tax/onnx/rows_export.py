"""The rows graph of an exported model: over the weights of its traced graph, gated against PyTorch on the CPU."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto
from transformers import AutoConfig, PretrainedConfig

from safety_tax.core.errors import PipelineError
from safety_tax.engine.gqa.rows_session import COLDNESS, LOGPROBS, ROWS_GRAPH, TARGETS, UNIFORMS, WANTED
from safety_tax.engine.gqa.session import LAST_PLACES, TOTAL_LENGTH
from safety_tax.engine.session import GRAPH, Float
from safety_tax.model_files.attention import attention_of
from safety_tax.onnx.graph_pieces import Values, run_in_pieces
from safety_tax.onnx.grouped_query import rotary_tables
from safety_tax.onnx.over_checkpoint import save_graph, tensors_of
from safety_tax.onnx.rows_graph import Decoder, rows_graph

RANKS = 16


def write_rows_graph(folder: Path) -> None:
    """Write `rows.onnx` beside the `model.onnx` of `folder`, in the type of its weights and over the same data.

    Raises PipelineError when the model's layers are not those of a Llama.
    """
    save_rows_graph(folder, None, folder / ROWS_GRAPH)


def save_rows_graph(folder: Path, kind: int | None, path: Path) -> None:
    """The same, computing in another type than the weights' where `kind` is not None."""
    traced = onnx.load(str(folder / GRAPH), load_external_data=False)
    weights = {tensor.name: tensor for tensor in tensors_of(traced.graph)}
    config = AutoConfig.from_pretrained(folder)
    cosines, sines = rotary_tables(config)
    decoder = decoder_of(config, weights["model.embed_tokens.weight"].dims[0])
    known = {entry.version for entry in traced.opset_import if entry.domain == ""}
    own = weights["model.embed_tokens.weight"].data_type
    model = rows_graph(
        decoder, kind or own, weights, cosines[: decoder.positions], sines[: decoder.positions], max(known)
    )
    if unread := sorted(weights.keys() - {tensor.name for tensor in model.graph.initializer}):
        raise PipelineError(
            f"Expected the layers of a Llama in {folder}, found {unread[0]} too; set export.grouped_query to false in "
            "params.yaml for this architecture."
        )
    save_graph(model, path)


def decoder_of(config: PretrainedConfig, vocabulary: int) -> Decoder:
    """The shape of the model of a configuration."""
    attention = attention_of(config)
    size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Decoder(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        head_size=size,
        vocabulary=vocabulary,
        positions=attention.context,
        epsilon=config.rms_norm_eps,
        window=attention.smallest,
    )


def rows_difference(folder: Path, prompts: list[list[int]], expected: list[Float]) -> float:
    """The largest difference, in nats, of `rows.onnx` of `folder` from log-probabilities [time, vocabulary] of prompts.

    It computes in float32 on the CPU, whatever the type of its weights, with a prompt's first half as past. Asked for
    are the most and the least likely token of each place, and some between.
    """
    path = folder / f"float32.{ROWS_GRAPH}"
    save_rows_graph(folder, TensorProto.FLOAT, path)
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
