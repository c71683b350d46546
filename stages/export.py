"""Merged weights -> `models/onnx/<model>/<recipe>/`.  `python -m stages.export MODEL RECIPE`

A recipe's variant is the base's very graph beside the merged weights, which the folder has links to.
"""

import argparse

from safety_tax.core.cells import is_empty, leave_empty
from safety_tax.core.console import run_stage, say
from safety_tax.core.errors import PipelineError
from safety_tax.core.files import folder_written_atomically
from safety_tax.core.workspace import MERGED, ONNX
from safety_tax.engine.weight_files import weight_bytes
from safety_tax.onnx.linking import link_variant


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("recipe")
    arguments = parser.parse_args()
    model, recipe = arguments.model, arguments.recipe
    weights, output = MERGED / model / recipe, ONNX / model / recipe
    if not weights.exists():
        _require_known(model, recipe)
    if is_empty(weights):
        leave_empty(f"export: {model} {recipe}", output)
        return
    say(f"export: {model} {recipe}, linked")
    with folder_written_atomically(output) as folder:
        link_variant(weights, ONNX / model / "base", folder)
        size = weight_bytes(folder)
    say(f"export: {model} {recipe}, over {size / 1e6:,.0f} MB of weights, the base's graph")


def _require_known(model: str, recipe: str) -> None:
    """Raises PipelineError when params.yaml has no such model or recipe."""
    # All else that this stage does takes less time than to read them.
    from safety_tax.params import load_params

    params = load_params()
    params.model(model)
    if recipe == "base":
        raise PipelineError("Expected a recipe, found base; `python -m stages.export_base` exports the base.")
    params.recipe(recipe)


if __name__ == "__main__":
    run_stage(main)
