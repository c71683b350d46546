"""Base -> `models/onnx/<model>/base/`.  `python -m stages.export_base MODEL`

The graph is traced by Optimum and must agree with PyTorch on real prompts. It reads its weights from the checkpoint's
own files, which the folder has links to.
"""

import argparse
import logging

from safety_tax.core.console import run_stage, say
from safety_tax.core.files import folder_written_atomically
from safety_tax.core.workspace import BASES, ONNX
from safety_tax.engine.weight_files import weight_bytes
from safety_tax.onnx.exporting import export_base, require_parity
from safety_tax.params import load_params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    name: str = parser.parse_args().model
    logging.getLogger("transformers").setLevel(logging.ERROR)
    params = load_params()
    model = params.model(name)
    weights = BASES / name
    say(f"export_base: {name}, traced by Optimum")
    with folder_written_atomically(ONNX / name / "base") as folder:
        export_base(weights, model.dtype, params.export, folder)
        worst = require_parity(weights, folder, name, model.dtype, params.export, params.prompting.date)
        size = weight_bytes(folder)
    say(f"export_base: {name}, over {size / 1e6:,.0f} MB of weights, {worst:.1e} nats from PyTorch at most")


if __name__ == "__main__":
    run_stage(main)
