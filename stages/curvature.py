"""Base + tuning rows -> where the base is curved, `models/curvature/<model>/`.  `python -m stages.curvature MODEL`

`kfac/`: the generalised eigenvectors of each layer input's second moments, one forward pass over harmful and benign
prompts. `diagonal/`: the diagonal Fisher of their responses. Nothing but an empty list where no form is asked for.
The folder of the model's donors is there afterwards, though there may be none.
"""

import argparse
from typing import Any

from safety_tax.core.console import run_stage, say
from safety_tax.core.files import folder_written_atomically, write_json
from safety_tax.core.workspace import CURVATURE, DONORS, KEPT
from safety_tax.donors.curvature import collect
from safety_tax.donors.vector_instructions import use_avx2
from safety_tax.params import load_params


def main() -> None:
    use_avx2()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    arguments = parser.parse_args()
    params = load_params().of(arguments.model)
    settings, model = params.curvature, params.model(arguments.model)
    say(f"curvature: {arguments.model}, {', '.join(settings.forms) or 'none asked for'}")
    with folder_written_atomically(CURVATURE / arguments.model) as folder:
        found: dict[str, Any] = {"forms": [], "inputs": {}}
        if settings.forms:
            found = collect(arguments.model, model, settings, params.prompting.date, folder)
        write_json(folder / "curvature.json", found)
    kept = DONORS / arguments.model / KEPT
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text("So that this folder is there, where no recipe asks for a donor.\n", encoding="utf-8")
    say(f"curvature: {arguments.model}, {len(found['inputs']):,} weights with second moments of their inputs")


if __name__ == "__main__":
    run_stage(main)
