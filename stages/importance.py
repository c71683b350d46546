"""Base + donors -> which weights matter to each, `models/importance/<model>/`.  `python -m stages.importance MODEL`

A folder for each donor of `importance.donors`, a score for every weight of its linear layers. Nothing but an empty list
where no donor is named.
"""

import argparse

from safety_tax.core.console import run_stage, say
from safety_tax.core.files import folder_written_atomically, write_json
from safety_tax.core.workspace import IMPORTANCE
from safety_tax.donors.vector_instructions import use_avx2
from safety_tax.params import load_params


def main() -> None:
    use_avx2()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    arguments = parser.parse_args()
    # For whom a donor is need not be tracked: one that becomes the model's changes the folder of its donors, in `deps`.
    params = load_params().of(arguments.model)
    settings, model = params.importance, params.model(arguments.model)
    say(f"importance: {arguments.model}, {', '.join(settings.donors) or 'none asked for'}")
    found = 0
    with folder_written_atomically(IMPORTANCE / arguments.model) as folder:
        if settings.donors:
            from safety_tax.donors.importance import locate_all  # torch: seconds

            found = locate_all(arguments.model, model, settings, params.prompting.date, folder)
        write_json(folder / "importance.json", {"donors": settings.donors})
    say(f"importance: {arguments.model}, scores of {found:,} weights")


if __name__ == "__main__":
    run_stage(main)
