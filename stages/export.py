"""Weights -> `models/onnx/<model>/<variant>/`.  `python -m stages.export MODEL VARIANT`

The base's graph is traced by Optimum; a recipe's variant is the base's graph bound to the merged weights.
Either way the result must agree with PyTorch on real prompts.
"""

import argparse
import logging
import shutil
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer

from stages.lib.console import run_stage, say
from stages.lib.datasets.matched_benign import read as read_benign
from stages.lib.errors import PipelineError
from stages.lib.files import folder_written_atomically
from stages.lib.grouped_query import largest_grouped_difference, write_grouped_graph
from stages.lib.inference.grouped_session import GROUPED_GRAPH
from stages.lib.inference.session import GRAPH
from stages.lib.onnx_files import require_contained
from stages.lib.onnx_graph import (
    BINDING,
    WEIGHTS,
    add_logit_positions,
    bind,
    load_binding,
    save_graph,
    trace,
    write_weights,
)
from stages.lib.params import Export, Model, load_params
from stages.lib.parity import largest_difference
from stages.lib.prompting import chat_token_ids
from stages.lib.tensor_files import Checkpoint
from stages.lib.weightless import weightless

# What inference needs beside graph and weights.
COMPANIONS = ("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "chat_template*")
PROMPTS = Path("data/prompts")


def require_parity(weights: Path, onnx: Path, model: str, dtype: str, export: Export) -> float:
    """The gate: ONNX Runtime agrees with PyTorch on real prompts. Returns the largest difference, in nats.

    Raises PipelineError when it exceeds the type's own tolerance.
    """
    tokenizer = AutoTokenizer.from_pretrained(weights)
    texts = [item.text for item in read_benign(PROMPTS)][: export.parity_prompts]
    prompts = [chat_token_ids(tokenizer, text, model) for text in texts]
    worst = largest_difference(weights, onnx, prompts)
    if (onnx / GROUPED_GRAPH).exists():
        worst = max(worst, largest_grouped_difference(onnx, prompts))
    tolerance = export.tolerance(dtype)
    if not worst <= tolerance:
        raise PipelineError(
            f"Expected ONNX Runtime and PyTorch to agree within {tolerance} nats on {weights}, found a "
            f"difference of {worst:.2g}; do not measure this export: check dtype and opset in params.yaml."
        )
    return worst


def export(weights: Path, base_onnx: Path | None, model: Model, settings: Export, folder: Path) -> None:
    """Write graph, weights and companions of one variant into `folder`; `base_onnx` is None for the base itself."""
    dtype = np.dtype(model.dtype)
    checkpoint = Checkpoint(weights)
    if base_onnx is None:
        network = weightless(weights, {"float32": torch.float32, "float16": torch.float16}[model.dtype])
        traced = trace(network, model.dtype, settings.opset)
        binding = bind(traced, network, checkpoint)
        add_logit_positions(traced.model)
        save_graph(traced.model, binding, folder)
    else:
        binding = load_binding(base_onnx / BINDING)
        for name in (GRAPH, BINDING, GROUPED_GRAPH):
            if (base_onnx / name).exists():
                shutil.copyfile(base_onnx / name, folder / name)
    write_weights(folder / GRAPH, binding, checkpoint, dtype, folder / WEIGHTS)
    require_contained(folder / GRAPH)
    for pattern in COMPANIONS:
        for file in weights.glob(pattern):
            shutil.copyfile(file, folder / file.name)
    # On a CPU nobody runs float16, which its kernels only widen to float32.
    if base_onnx is None and settings.grouped_query and model.dtype == "float32":
        write_grouped_graph(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("variant", help="`base`, or a recipe's name")
    arguments = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    params = load_params()
    model = params.model(arguments.model)
    onnx_folder = Path("models/onnx") / arguments.model
    if arguments.variant == "base":
        weights, base_onnx = Path("models/base") / arguments.model, None
    else:
        params.recipe(arguments.variant)
        weights, base_onnx = Path("models/merged") / arguments.model / arguments.variant, onnx_folder / "base"
    say(f"export: {arguments.model} {arguments.variant}, {'traced by Optimum' if base_onnx is None else 'bound'}")
    with folder_written_atomically(onnx_folder / arguments.variant) as folder:
        export(weights, base_onnx, model, params.export, folder)
        worst = require_parity(weights, folder, arguments.model, model.dtype, params.export)
        size = sum(file.stat().st_size for file in folder.iterdir())
    say(f"export: {arguments.model} {arguments.variant}, {size / 1e6:,.0f} MB, {worst:.1e} nats from PyTorch at most")


if __name__ == "__main__":
    run_stage(main)
