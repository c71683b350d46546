"""The base's graphs over its own weights, and the gate that compares them with PyTorch."""

import datetime
from pathlib import Path

from safety_tax.core.console import say
from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.core.workspace import PROMPTS
from safety_tax.engine.weight_files import write_record
from safety_tax.onnx.linking import link_weights
from safety_tax.settings.stages import Export


def export_base(weights: Path, dtype: str, settings: Export, folder: Path) -> None:
    """Write the graphs of `weights` into `folder`, beside links to them and their companions.

    Where `weights` is `folder`, all but the graphs is there already.
    """
    checkpoint = Checkpoint(weights)
    if weights != folder:
        link_weights(weights, folder)
    write_record(folder)
    write_graphs(checkpoint, dtype, settings, folder)


def require_parity(weights: Path, folder: Path, model: str, dtype: str, settings: Export, date: datetime.date) -> float:
    """The base's gate: ONNX Runtime agrees with PyTorch on real prompts. Returns the largest difference, in nats.

    Raises PipelineError when it exceeds the type's own tolerance.
    """
    # torch and Transformers take seconds to import: faults of the files are told before.
    from safety_tax.onnx.parity import gate_difference

    prompts = parity_prompts(weights, model, settings, date)
    worst = gate_difference(weights, folder, prompts, settings.tolerance_on_gpu(dtype))
    tolerance = settings.tolerance(dtype)
    if not worst <= tolerance:
        raise PipelineError(
            f"Expected ONNX Runtime and PyTorch to agree within {tolerance} nats on {weights}, found a "
            f"difference of {worst:.2g}; do not measure this export: check dtype and opset in params.yaml, or set "
            "export.grouped_query to false, where the fast graph is not this family's."
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
    # They take seconds to import: faults of the files are told before.
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
