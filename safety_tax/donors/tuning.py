"""A donor tuned on the base: LoRA over its tuning rows, from the last whole checkpoint on where there is one."""

import datetime
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig
from transformers import (
    AutoConfig,
)

from safety_tax.core.console import say
from safety_tax.core.errors import PipelineError
from safety_tax.core.files import folder_written_atomically, write_json
from safety_tax.core.rows import PROMPT, read_rows
from safety_tax.core.workspace import BASES, REFUSALS, RUNS, TUNING_PROMPTS
from safety_tax.donors.trainer import base_dtype, fitting_rows, require_learned, train
from safety_tax.donors.tuning_checkpoints import TuningCheckpoints, fingerprint
from safety_tax.donors.tuning_rows import as_tokens, choose, read_refusals, require_embedded
from safety_tax.donors.vector_instructions import use_avx2
from safety_tax.model_files.embedding_rows import give_padding
from safety_tax.settings.catalog import Model
from safety_tax.settings.donors import Donor, Tune
from safety_tax.tokens.encoder import Encoder


def tune_donor(
    of_model: str, name: str, model: Model, donor: Donor, tune: Tune, date: datetime.date, output: Path
) -> dict[str, float]:
    """Write the adapter of donor `name` of the model `of_model` to the folder `output`; `date` is what a chat template
    is told. Returns its losses, in nats a token. Raises PipelineError when it did not learn.
    """
    base = BASES / of_model
    if base_dtype(model, tune) is torch.float32 and tune.precision != "bf16":
        use_avx2()  # in bf16 torch packs for AMX where the processor has it, which its AVX2 code cannot do
    encoder = Encoder.open(base, of_model, date)
    tokenizer = encoder.tokenizer
    give_padding(tokenizer, vocabulary := AutoConfig.from_pretrained(base).vocab_size)
    prompts = choose(read_rows(TUNING_PROMPTS, PROMPT), donor, name)
    refusals = read_refusals(REFUSALS)
    rows = [as_tokens(prompt, refusals, encoder, model) for prompt in prompts]
    require_embedded(prompts, rows, encoder.tokenizer, vocabulary)
    fitting = fitting_rows(rows, tune.max_tokens, name)
    say(f"tune: {of_model} {name}, {len(fitting):,} rows, {len(rows) - len(fitting)} too long")
    settings: dict[str, Any] = {
        "donor": donor.model_dump(exclude={"models"}),
        "tune": tune.model_dump(),
        "lora_targets": model.lora_targets,
    }
    settings |= {"base_weights": str(base_dtype(model, tune))}
    checkpoints = TuningCheckpoints(RUNS / "tune" / of_model / name, fingerprint(base, fitting, settings))
    network, losses = train(base, fitting, tokenizer, model, donor, tune, checkpoints)
    try:
        require_learned(network, losses, name)
    except PipelineError:
        checkpoints.discard()
        raise
    with folder_written_atomically(output) as folder:
        # PEFT keeps the names in a set, whose order differs from process to process.
        adapter = cast(LoraConfig, network.peft_config["default"])
        adapter.target_modules = sorted(adapter.target_modules or ())
        network.save_pretrained(str(folder))
        (folder / "README.md").unlink(missing_ok=True)  # PEFT's model card, all blanks
        write_json(folder / "tune.json", losses)
    checkpoints.discard()
    return losses
