"""A variant's folder of graphs, links to its weights and companions, and the gate that compares it with PyTorch."""

import datetime
import json
import shutil
from pathlib import Path

from safety_tax.core.console import say
from safety_tax.core.errors import PipelineError, how_to_have
from safety_tax.core.files import link_or_copy
from safety_tax.core.tensor_files import INDEX, Checkpoint
from safety_tax.core.workspace import PROMPTS
from safety_tax.engine.weight_files import RECORD, describe, read_record, write_record
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


def parity_prompts(weights: Path, model: str, settings: Export, date: datetime.date) -> list[list[int]]:
    """Token ids of the first of the project's own benign prompts."""
    from safety_tax.datasets.matched_benign import read as read_benign
    from safety_tax.tokens.encoder import Encoder

    encoder = Encoder.open(weights, model, date)
    return [encoder.chat(item.text) for item in read_benign(PROMPTS)][: settings.parity_prompts]


def write_graphs(checkpoint: Checkpoint, dtype: str, settings: Export, folder: Path) -> None:
    """Write the base's graphs, from its config.json and the headers of its weights.

    Raises PipelineError when a tensor is of another type than `dtype`.
    """
    # A variant needs none of these, and they take a second to import.
    from transformers import AutoConfig

    from safety_tax.model_files.attention import unfit, unwritten
    from safety_tax.onnx.grouped_query import write_grouped_graph
    from safety_tax.onnx.onnx_files import require_contained
    from safety_tax.onnx.onnx_graph import write_graph
    from safety_tax.onnx.rows_export import write_rows_graph

    write_graph(checkpoint.path, checkpoint, dtype, settings.opset, folder)
    config = AutoConfig.from_pretrained(folder)
    # On a CPU nobody runs 16 bits, which its kernels only widen; CUDA's operator takes nothing else.
    whole = dtype == "float32"
    if settings.grouped_query:
        if reason := (unfit if whole else unwritten)(config):
            say(f"  the plain graph alone: the model has {reason}")
        else:
            (write_grouped_graph if whole else write_rows_graph)(folder)
    for graph in folder.glob("*.onnx"):
        require_contained(graph)


def take_graphs(weights: Path, base_onnx: Path, folder: Path) -> None:
    """Give a variant the base's graphs.

    Raises PipelineError when there are none, or its config.json or the layout of its weights is another.
    """
    graphs = sorted(base_onnx.glob("*.onnx"))
    if not graphs:
        raise PipelineError(f"Expected the base's graph in {base_onnx}, found none; {how_to_have()}.")
    ours, theirs = (json.loads((path / "config.json").read_text(encoding="utf-8")) for path in (weights, base_onnx))
    if differing := sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key)):
        raise PipelineError(
            f"Expected {weights / 'config.json'} to be the base's, whose graph serves every variant, found another "
            f"{differing[0]!r}; merge again."
        )
    require_base_layout(weights, base_onnx)
    for file in (base_onnx / RECORD, *graphs):
        link_or_copy(file, folder / file.name)


def require_base_layout(weights: Path, base_onnx: Path) -> None:
    """Raises PipelineError when the weight files differ from the base's in anything but the tensors' numbers."""
    expected = read_record(base_onnx)
    found = {file.name: describe(file) for file in weights.glob("*.safetensors")}
    if found == expected:
        return
    ours, theirs = (Checkpoint(folder) for folder in (weights, base_onnx))
    for name in sorted({*ours.names(), *theirs.names()}):
        kinds = [(c.shape(name), str(c.dtype(name))) if name in c else "none" for c in (theirs, ours)]
        if kinds[0] != kinds[1]:
            raise PipelineError(
                f"Expected the base's tensors in {weights}, {name} as {kinds[0]}, found {kinds[1]}; merge again."
            )
    name = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))[0]
    raise PipelineError(
        f"Expected every tensor of {weights} at its place in the base's files, found {name} to differ; merge again."
    )


def export(weights: Path, base_onnx: Path | None, model: Model, settings: Export, folder: Path) -> None:
    """Write the graphs of one variant into `folder`, beside links to its weights and companions.

    `base_onnx` is None for the base itself. Where `weights` is `folder`, all but the graphs is there already.
    """
    checkpoint = Checkpoint(weights)
    if weights != folder:
        for file in (file for pattern in COMPANIONS for file in weights.glob(pattern)):
            shutil.copyfile(file, folder / file.name)
        for file in (*checkpoint.files, weights / INDEX):
            if file.exists():
                link_or_copy(file, folder / file.name)
    if base_onnx is None:
        write_record(folder)
        write_graphs(checkpoint, model.dtype, settings, folder)
    else:
        take_graphs(weights, base_onnx, folder)
