"""Weights -> `models/onnx/<model>/<variant>/`.  `python -m stages.export MODEL VARIANT`

The base's graph is traced by Optimum and must agree with PyTorch on real prompts. It reads its weights from the
checkpoint's own files, which the folder has links to. A recipe's variant is that very graph beside the merged weights.
"""

import argparse
import logging

from safety_tax.core.cells import is_empty, leave_empty
from safety_tax.core.console import run_stage, say
from safety_tax.core.files import folder_written_atomically
from safety_tax.core.workspace import BASES, MERGED, ONNX
from safety_tax.engine.weight_files import read_record
from safety_tax.onnx.exporting import export, require_parity
from safety_tax.params import load_params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("variant", help="`base`, or a recipe's name")
    arguments = parser.parse_args()
    logging.getLogger("transformers").setLevel(logging.ERROR)
    params = load_params()
    model = params.model(arguments.model)
    onnx_folder = ONNX / arguments.model
    if arguments.variant == "base":
        weights, base_onnx = BASES / arguments.model, None
    else:
        params.recipe(arguments.variant)
        weights, base_onnx = MERGED / arguments.model / arguments.variant, onnx_folder / "base"
    if is_empty(weights):
        leave_empty(f"export: {arguments.model} {arguments.variant}", onnx_folder / arguments.variant)
        return
    say(f"export: {arguments.model} {arguments.variant}, {'traced by Optimum' if base_onnx is None else 'linked'}")
    with folder_written_atomically(onnx_folder / arguments.variant) as folder:
        export(weights, base_onnx, model, params.export, folder)
        gate = "the base's graph"
        if base_onnx is None:
            worst = require_parity(weights, folder, arguments.model, model.dtype, params.export, params.prompting.date)
            gate = f"{worst:.1e} nats from PyTorch at most"
        size = sum(file.bytes for file in read_record(folder).values())
    say(f"export: {arguments.model} {arguments.variant}, over {size / 1e6:,.0f} MB of weights, {gate}")


if __name__ == "__main__":
    run_stage(main)
