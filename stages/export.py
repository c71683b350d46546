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
from transformers import AutoModelForCausalLM, AutoTokenizer

from stages.lib.console import run_stage, say
from stages.lib.datasets.matched_benign import read as read_benign
from stages.lib.errors import PipelineError
from stages.lib.files import folder_written_atomically
from stages.lib.inference.session import CPU, GRAPH, ModelSession
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
from stages.lib.prompting import chat_token_ids
from stages.lib.tensor_files import Checkpoint

# What inference needs beside graph and weights.
COMPANIONS = ("config.json", "generation_config.json", "tokenizer*", "special_tokens_map.json", "chat_template*")
PROMPTS = Path("data/prompts")


def largest_difference(weights: Path, onnx: Path, prompts: list[list[int]]) -> float:
    """Largest difference in log-probability (nats) between PyTorch and ONNX Runtime on the CPU.

    Compared at every position, the second half of each prompt with the first half as its past.
    """
    network = AutoModelForCausalLM.from_pretrained(weights, dtype=torch.float32).eval()
    session = ModelSession(onnx, CPU)
    worst = 0.0
    for prompt in prompts:
        tokens = np.array([prompt], np.int64)
        with torch.inference_mode():
            expected = torch.log_softmax(network(torch.from_numpy(tokens)).logits[0].double(), dim=-1).numpy()
        half = len(prompt) // 2
        past = session.empty_past(1)
        found = []
        for start, end in ((0, half), (half, len(prompt))):
            positions = np.arange(start, end)[None]
            output = session.run(tokens[:, start:end], np.ones((1, end), np.int64), positions, positions - start, past)
            past = output.past
            found.append(torch.log_softmax(torch.from_numpy(output.logits[0]).double(), dim=-1).numpy())
        difference = float(np.abs(np.concatenate(found) - expected).max())
        worst = max(worst, difference) if np.isfinite(difference) else float("inf")
    return worst


def require_parity(weights: Path, onnx: Path, model: str, export: Export) -> float:
    """The gate: ONNX Runtime agrees with PyTorch on real prompts. Returns the largest difference, in nats.

    Raises PipelineError when it exceeds `export.parity_tolerance`.
    """
    tokenizer = AutoTokenizer.from_pretrained(weights)
    texts = [item.text for item in read_benign(PROMPTS)][: export.parity_prompts]
    worst = largest_difference(weights, onnx, [chat_token_ids(tokenizer, text, model) for text in texts])
    if not worst <= export.parity_tolerance:
        raise PipelineError(
            f"Expected ONNX Runtime and PyTorch to agree within {export.parity_tolerance} nats on {weights}, found a "
            f"difference of {worst:.2g}; do not measure this export: check dtype and opset in params.yaml."
        )
    return worst


def export(weights: Path, base_onnx: Path | None, model: Model, settings: Export, folder: Path) -> None:
    """Write graph, weights and companions of one variant into `folder`; `base_onnx` is None for the base itself."""
    dtype = np.dtype(model.dtype)
    checkpoint = Checkpoint(weights)
    if base_onnx is None:
        graph = trace(weights, model.dtype, settings.opset)
        add_logit_positions(graph)
        binding = bind(graph, checkpoint, dtype)
        save_graph(graph, binding, folder)
        del graph  # it still holds the weights
    else:
        binding = load_binding(base_onnx / BINDING)
        for name in (GRAPH, BINDING):
            shutil.copyfile(base_onnx / name, folder / name)
    write_weights(folder / GRAPH, binding, checkpoint, dtype, folder / WEIGHTS)
    require_contained(folder / GRAPH)
    for pattern in COMPANIONS:
        for file in weights.glob(pattern):
            shutil.copyfile(file, folder / file.name)


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
        worst = require_parity(weights, folder, arguments.model, params.export)
        size = sum(file.stat().st_size for file in folder.iterdir())
    say(f"export: {arguments.model} {arguments.variant}, {size / 1e6:,.0f} MB, {worst:.1e} nats from PyTorch at most")


if __name__ == "__main__":
    run_stage(main)
