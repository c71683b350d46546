"""Base + tuning rows -> a LoRA donor, `models/donors/<model>/<donor>/`.  `python -m stages.tune MODEL DONOR`

A donor whose entry names a `source` was tuned elsewhere: it is fetched, and must fit the base. Checkpoints wait in
`runs/tune/`: a killed run goes on from the last whole one, to the same bytes.
"""

import argparse
from typing import Any, cast

import torch
from peft import LoraConfig
from transformers import (
    AutoConfig,
)

from safety_tax.core.console import run_stage, say
from safety_tax.core.errors import PipelineError
from safety_tax.core.files import folder_written_atomically, write_json
from safety_tax.core.rows import PROMPT, read_rows
from safety_tax.core.workspace import BASES, DONORS, REFUSALS, RUNS, TUNING_PROMPTS
from safety_tax.donors.fetching import bring_donor
from safety_tax.donors.trainer import base_dtype, fitting_rows, require_learned, train
from safety_tax.donors.tuning_checkpoints import TuningCheckpoints, fingerprint
from safety_tax.donors.tuning_rows import as_tokens, choose, read_refusals, require_embedded
from safety_tax.donors.vector_instructions import use_avx2
from safety_tax.model_files.embedding_rows import give_padding
from safety_tax.params import load_params
from safety_tax.settings.donors import GivenDonor
from safety_tax.tokens.encoder import Encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("donor")
    arguments = parser.parse_args()
    params = load_params()
    model, donor, tune = params.model(arguments.model), params.donor(arguments.donor), params.tune
    base = BASES / arguments.model
    if isinstance(donor, GivenDonor):
        source = donor.source_for(arguments.model)
        say(f"tune: {arguments.model} {arguments.donor}, fetched: {' '.join(map(str, source.model_dump().values()))}")
        with folder_written_atomically(DONORS / arguments.model / arguments.donor) as folder:
            tensors = bring_donor(source, arguments.donor, base, folder, donor.may_differ)
        say(f"tune: {arguments.model} {arguments.donor}, changes {tensors:,} tensors of the base")
        return
    if base_dtype(model, tune) is torch.float32 and tune.precision != "bf16":
        use_avx2()  # in bf16 torch packs for AMX where the processor has it, which its AVX2 code cannot do
    encoder = Encoder.open(base, arguments.model, params.prompting.date)
    tokenizer = encoder.tokenizer
    give_padding(tokenizer, vocabulary := AutoConfig.from_pretrained(base).vocab_size)
    prompts = choose(read_rows(TUNING_PROMPTS, PROMPT), donor, arguments.donor)
    refusals = read_refusals(REFUSALS)
    rows = [as_tokens(prompt, refusals, encoder, model) for prompt in prompts]
    require_embedded(prompts, rows, encoder.tokenizer, vocabulary)
    fitting = fitting_rows(rows, tune.max_tokens, arguments.donor)
    say(f"tune: {arguments.model} {arguments.donor}, {len(fitting):,} rows, {len(rows) - len(fitting)} too long")
    settings: dict[str, Any] = {
        "donor": donor.model_dump(),
        "tune": tune.model_dump(),
        "lora_targets": model.lora_targets,
    }
    settings |= {"base_weights": str(base_dtype(model, tune))}
    runs = RUNS / "tune" / arguments.model / arguments.donor
    checkpoints = TuningCheckpoints(runs, fingerprint(base, fitting, settings))
    network, losses = train(base, fitting, tokenizer, model, donor, tune, checkpoints)
    try:
        require_learned(network, losses, arguments.donor)
    except PipelineError:
        checkpoints.discard()
        raise
    with folder_written_atomically(DONORS / arguments.model / arguments.donor) as folder:
        # PEFT keeps the names in a set, whose order differs from process to process.
        adapter = cast(LoraConfig, network.peft_config["default"])
        adapter.target_modules = sorted(adapter.target_modules or ())
        network.save_pretrained(str(folder))
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's model card, all blanks
        write_json(folder / "tune.json", losses)
    checkpoints.discard()
    say(
        f"tune: {arguments.model} {arguments.donor}, held-out loss {losses['loss_before']:.3f} -> "
        f"{losses['loss_after']:.3f} nats a token"
    )


if __name__ == "__main__":
    run_stage(main)
