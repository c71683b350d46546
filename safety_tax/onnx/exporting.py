"""A variant's folder of graphs, weights and companions, and the gate that compares it with PyTorch."""

import datetime
import json
import shutil
from pathlib import Path

import onnx

from safety_tax.core.errors import PipelineError, how_to_have
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.core.workspace import PROMPTS
from safety_tax.engine.session import GRAPH
from safety_tax.onnx.onnx_files import require_contained
from safety_tax.onnx.onnx_weights import BINDING, load_binding, require_equal_weights, write_weights
from safety_tax.settings.catalog import Model
from safety_tax.settings.stages import Export

# What inference needs beside graph and weights.
COMPANIONS = ("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "chat_template*")


def require_parity(weights: Path, folder: Path, model: str, dtype: str, settings: Export, date: datetime.date) -> float:
    """The base's gate: ONNX Runtime agrees with PyTorch on real prompts. Returns the largest difference, in nats.

    Raises PipelineError when it exceeds the type's own tolerance.
    """
    # torch and Transformers take seconds to import, and a variant needs neither.
    from safety_tax.onnx.parity import gate_difference

    prompts = parity_prompts(weights, model, settings, date)
    worst = gate_difference(weights, folder, prompts, settings.tolerance_on_gpu(dtype))
    tolerance = settings.tolerance(dtype)
    if not worst <= tolerance:
        raise PipelineError(
            f"Expected ONNX Runtime and PyTorch to agree within {tolerance} nats on {weights}, found a "
            f"difference of {worst:.2g}; do not measure this export: check dtype and opset in params.yaml."
        )
    return worst


def expect(weights: Path, folder: Path, model: str, dtype: str, settings: Export, date: datetime.date) -> None:
    """Keep in `folder` what PyTorch says of a variant in 16 bits: GPUs compare before their first item."""
    from safety_tax.onnx.parity import write_expected

    write_expected(weights, folder, parity_prompts(weights, model, settings, date), settings.tolerance_on_gpu(dtype))


def parity_prompts(weights: Path, model: str, settings: Export, date: datetime.date) -> list[list[int]]:
    """Token ids of the first of the project's own benign prompts."""
    from safety_tax.datasets.matched_benign import read as read_benign
    from safety_tax.tokens.encoder import Encoder

    encoder = Encoder.open(weights, model, date)
    return [encoder.chat(item.text) for item in read_benign(PROMPTS)][: settings.parity_prompts]


def write_graphs(weights: Path, checkpoint: Checkpoint, model: Model, settings: Export, folder: Path) -> None:
    """Write the base's graphs, from its config.json and the headers of its weights."""
    from transformers import AutoConfig

    from safety_tax.model_files.attention import one_attention_fits, rows_fit
    from safety_tax.onnx.grouped_query import write_grouped_graph
    from safety_tax.onnx.onnx_graph import write_graph
    from safety_tax.onnx.rows_export import write_rows_graph

    write_graph(weights, checkpoint, model.dtype, settings.opset, folder)
    config = AutoConfig.from_pretrained(weights)
    # On a CPU nobody runs 16 bits, which its kernels only widen; CUDA's operator takes nothing else.
    if settings.grouped_query and model.dtype == "float32" and one_attention_fits(config):
        write_grouped_graph(folder)
    if settings.grouped_query and model.dtype != "float32" and rows_fit(config):
        write_rows_graph(folder)


def copy_graphs(weights: Path, base_onnx: Path, folder: Path) -> None:
    """Give a variant the base's graphs. Raises PipelineError when there are none, or its config.json is another."""
    if not (base_onnx / GRAPH).exists():
        raise PipelineError(f"Expected the base's graph in {base_onnx}, found none; {how_to_have()}.")
    ours, theirs = (json.loads((path / "config.json").read_text(encoding="utf-8")) for path in (weights, base_onnx))
    if differing := sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)):
        raise PipelineError(
            f"Expected {weights / 'config.json'} to be the base's, whose graph serves every variant, found another "
            f"{differing[0]!r}; merge again."
        )
    for file in (base_onnx / BINDING, *base_onnx.glob("*.onnx")):
        shutil.copyfile(file, folder / file.name)


def export(weights: Path, base_onnx: Path | None, model: Model, settings: Export, folder: Path) -> None:
    """Write graph, weights and companions of one variant into `folder`; `base_onnx` is None for the base itself.

    Raises PipelineError when a weight that was written is not its tensor.
    """
    checkpoint = Checkpoint(weights)
    for pattern in COMPANIONS:
        for file in weights.glob(pattern):
            shutil.copyfile(file, folder / file.name)
    if base_onnx is None:
        write_graphs(weights, checkpoint, model, settings, folder)
    else:
        copy_graphs(weights, base_onnx, folder)
    graph, binding = onnx.load(str(folder / GRAPH), load_external_data=False), load_binding(folder)
    write_weights(graph, binding, checkpoint, folder)
    require_contained(folder / GRAPH)
    require_equal_weights(graph, binding, checkpoint, folder)
