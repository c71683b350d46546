"""Base + tuning rows -> a LoRA donor, `models/donors/<model>/<donor>/`.  `python -m stages.tune MODEL DONOR`

A donor whose entry names a `source` was tuned elsewhere: it is fetched, and must fit the base. One that is not for the
model leaves an empty folder. Checkpoints wait in `runs/tune/`: a killed run goes on from the last whole one, to the
same bytes.
"""

import argparse

from safety_tax.core.cells import leave_no_donor
from safety_tax.core.console import run_stage, say
from safety_tax.core.files import folder_written_atomically
from safety_tax.core.workspace import BASES, DONORS
from safety_tax.donors.fetching import bring_donor
from safety_tax.params import load_params
from safety_tax.settings.donors import GivenDonor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("donor")
    arguments = parser.parse_args()
    params = load_params()
    model, donor = params.model(arguments.model), params.donor(arguments.donor)
    name, output = f"{arguments.model} {arguments.donor}", DONORS / arguments.model / arguments.donor
    if not donor.is_for(arguments.model):
        leave_no_donor(f"tune: {name}", output)
        return
    if isinstance(donor, GivenDonor):
        source = donor.source_for(arguments.model)
        say(f"tune: {name}, fetched: {' '.join(map(str, source.model_dump().values()))}")
        with folder_written_atomically(output) as folder:
            tensors = bring_donor(source, arguments.donor, BASES / arguments.model, folder, donor.may_differ)
        say(f"tune: {name}, changes {tensors:,} tensors of the base")
        return
    from safety_tax.donors.tuning import tune_donor  # torch and Transformers: seconds

    losses = tune_donor(arguments.model, arguments.donor, model, donor, params.tune, params.prompting.date, output)
    say(f"tune: {name}, held-out loss {losses['loss_before']:.3f} -> {losses['loss_after']:.3f} nats a token")


if __name__ == "__main__":
    run_stage(main)
