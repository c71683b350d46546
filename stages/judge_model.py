"""`judge_models` of params.yaml -> `models/judges/`: what judges by a model.  `python -m stages.judge_model`

Each is brought from its source and exported to ONNX; it must agree with PyTorch on real prompts and answers. `rules`
needs none, and then only an empty list is written. `models.json` says what there is.
"""

import logging

from safety_tax.core.console import run_stage, say
from safety_tax.core.files import folder_written_atomically, write_json
from safety_tax.core.workspace import JUDGES
from safety_tax.judging.checkpoints import bring
from safety_tax.params import load_params


def main() -> None:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    params = load_params()
    with folder_written_atomically(JUDGES) as folder:
        for name, entry in params.judge_models.items():
            say(f"judge_model: {name}, a {entry.judge}")
            (folder / name).mkdir()
            worst = bring(name, entry, params.export, folder / name)
            say(f"judge_model: {name}, {worst:.1e} nats from PyTorch at most")
        write_json(folder / "models.json", {name: entry.judge for name, entry in params.judge_models.items()})
    say(f"judge_model: {len(params.judge_models)} exported")


if __name__ == "__main__":
    run_stage(main)
