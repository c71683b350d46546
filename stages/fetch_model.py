"""A model source -> `models/base/<model>/`: safetensors, config, tokenizer.  `python -m stages.fetch_model MODEL`"""

import argparse

from safety_tax.core.console import run_stage, say
from safety_tax.core.files import folder_written_atomically
from safety_tax.core.workspace import BASES
from safety_tax.model_files.bringing import bring, check, check_tokenizer, give_template, give_type, name_ends
from safety_tax.params import load_params


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    name = parser.parse_args().model
    params = load_params()
    say(f"fetch_model: {name}")
    with folder_written_atomically(BASES / name) as folder:
        bring(params.model(name), folder)
        give_template(params.model(name).chat_template, folder)
        parameters = check(folder, name)
        give_type(params.model(name).dtype, folder, name)
        check_tokenizer(folder, name)
        name_ends(folder, name)
    say(f"fetch_model: {name}, {parameters:,} parameters")


if __name__ == "__main__":
    run_stage(main)
