"""The gate of `fetch_model`: what it lets through does not fail later for a reason that lies in the files."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from transformers import GenerationConfig, PreTrainedModel

from safety_tax.core.errors import PipelineError
from safety_tax.core.files import write_json
from safety_tax.core.tensor_files import Checkpoint, require_finite
from safety_tax.model_files.config import CONFIG, read_object, replace_config, translate
from safety_tax.model_files.embedding_rows import beyond_rows
from safety_tax.model_files.families import inner_text, require_family, require_positions
from safety_tax.model_files.faults import FAULTS
from safety_tax.model_files.layout import COMPILED, Layout, layout_of, text_tensors
from safety_tax.model_files.network import empty_network, require_forward, require_shapes
from safety_tax.model_files.quantised import require_unpacked_config, require_unpacked_tensors
from safety_tax.model_files.sizes import require_sizes
from safety_tax.model_files.tokenizer import translate_tokenizer
from safety_tax.model_files.weights import name_format, rewrite, write_missing_index
from safety_tax.sources.published import brings_code
from safety_tax.tokens.chat_template import OTHER
from safety_tax.tokens.encoder import Encoder
from safety_tax.tokens.ends import ANY_DAY

GENERATION = "generation_config.json"
QUESTION = "What is the capital of France?"


class Examined(NamedTuple):
    """A model whose files were translated and checked."""

    network: PreTrainedModel
    """Without weights."""
    checkpoint: Checkpoint
    layout: Layout


def examine(folder: Path, name: str) -> Examined:
    """Translate the settings of the model in `folder` into the pinned version's, and compare them with its tensors.

    One pass is computed over shapes alone. Values of weights are left to `settle`. Raises PipelineError, with the next
    step, for whatever a later stage would fail at.
    """
    with _told(folder, name):
        network, checkpoint, layout = _laid_out(folder, name)
        _require_no_wrapper(Examined(network, checkpoint, layout), name)
        require_shapes(network, checkpoint, layout, name)
        require_positions(network, name)
        require_forward(network, name)
        _settle_generation(folder, network.config, name)
    return Examined(network, checkpoint, layout)


def settle(folder: Path, name: str) -> int:
    """`examine`, take out the tensors that nothing reads, and give the others the network's names.

    Returns the number of parameters.

    Raises PipelineError when a tensor holds NaN or infinity, too.
    """
    rewrite(folder, *examine(folder, name).layout)
    name_format(folder)
    write_missing_index(folder)
    checkpoint = Checkpoint(folder)
    for tensor in checkpoint.names():
        require_finite(checkpoint.read(tensor), tensor, folder)
    return sum(checkpoint.size(tensor) for tensor in checkpoint.names())


def settle_tokenizer(folder: Path, name: str, rows: int) -> None:
    """Translate the tokenizer's settings, build it, and render the chat template.

    `rows` are the embeddings'. Raises PipelineError when one of these fails, a prompt would lack what the user says, or
    every prompt would hold a token without a row.
    """
    with _told(folder, name):
        tokenizer = translate_tokenizer(folder, rows, name)
        encoder = Encoder.open(folder, name, ANY_DAY)
        ids = encoder.chat(QUESTION)
        says = QUESTION in encoder.chat_text(QUESTION)
    if not says:
        raise PipelineError(
            f"Expected the chat template of {name!r} to write what the user says, found a prompt without it, as of a "
            f"template that takes lists of texts and images alone; {OTHER}"
        )
    if found := beyond_rows(tokenizer, ids, rows):
        raise PipelineError(
            f"Expected the chat template of {name!r} to use tokens that have a row of the embeddings, {rows:,} "
            f"in all, found {found}; name one of data/chat_templates as `chat_template` in params.yaml, or choose a "
            "commit whose embeddings were resized."
        )


def settle_donor(folder: Path, name: str) -> None:
    """The same translation of a full checkpoint that is a donor: its configuration, and tensors' names.

    What wraps a network while it is trained may have left its name in a donor's tensors.
    """
    with _told(folder, name):
        # What a donor lacks is said when it is compared with its base.
        rewrite(folder, *_laid_out(folder, name, whole=False).layout)
        write_missing_index(folder)


def _laid_out(folder: Path, name: str, whole: bool = True) -> Examined:
    """The empty network of the translated configuration, and what the checkpoint's tensors are to it."""
    if not (folder / CONFIG).exists():
        raise PipelineError(f"Expected a {CONFIG} among the files of {name!r}, found none; correct its source.")
    raw = read_object(folder / CONFIG)
    text = inner_text(raw)
    _require_no_code(folder, name)
    family, architecture = require_family(text or raw, name)
    require_unpacked_config(raw, f"{CONFIG} of {name!r}")
    checkpoint = Checkpoint(folder)
    require_unpacked_tensors(checkpoint)
    require_sizes({**(text or raw), "model_type": family}, text_tensors(checkpoint, text is not None), name, whole)
    if text is not None:
        replace_config(folder / CONFIG, text)
    config = translate(folder / CONFIG, name, architectures=[architecture], model_type=family)
    network = empty_network(config, name)
    return Examined(network, checkpoint, layout_of(checkpoint, network, text is not None, name))


def _require_no_wrapper(found: Examined, name: str) -> None:
    """Raises PipelineError when the tensors stand behind the name of what wrapped the network while it was trained."""
    first = next(tensor for tensor, _ in found.network.named_parameters())
    placed = {*found.layout.unread, *found.layout.renamed}
    for tensor in sorted(set(found.checkpoint.names()) - placed):
        prefix = tensor.removesuffix(first) if tensor.endswith(f".{first}") else ""
        if prefix or tensor.startswith(COMPILED):
            raise PipelineError(
                f"Expected tensors by the names of Transformers in {name!r}, found {tensor[:120]}, as a network saves "
                f"itself within another one (torch.compile, DistributedDataParallel, PEFT, TRL); save the inner one, "
                f"without `{prefix or COMPILED}`, and give the folder."
            )
        if ".lora_" in tensor:
            raise PipelineError(
                f"Expected whole weights in {name!r}, found {tensor[:120]} of a LoRA adapter; merge it "
                "(`merge_and_unload()` of PEFT), save the model and give the folder."
            )


def _require_no_code(folder: Path, name: str) -> None:
    for file in sorted(folder.glob("*config.json")):
        if brings_code(read_object(file)):
            raise PipelineError(
                f"Expected a model that Transformers knows, found one in {name!r} that brings its own code "
                f"(auto_map in {file.name}), which is never run; use a checkpoint without it."
            )


def _settle_generation(folder: Path, config: Any, name: str) -> None:
    """Write the file that says what ends an answer, from config.json, where it is missing; load it otherwise."""
    if not (folder / GENERATION).exists():
        # The ids alone: Transformers refuses to save what old files of a model say of sampling.
        ids = {key: getattr(config, key, None) for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
        write_json(folder / GENERATION, {key: value for key, value in ids.items() if value is not None})
        return
    try:
        GenerationConfig.from_pretrained(folder)
    except FAULTS as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise PipelineError(
            f"Expected settings that Transformers reads in {GENERATION} of {name!r}, found: {reason}; remove the "
            "file, and what config.json says is taken."
        ) from None


@contextmanager
def _told(folder: Path, name: str) -> Iterator[None]:
    """What Transformers logs about a file is said here in a sentence, or is no fault.

    A sentence names the model, and not the folder under way, which nobody finds afterwards.
    """
    logger = logging.getLogger("transformers")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    except PipelineError as error:
        raise PipelineError(str(error).replace(str(folder), name)) from None
    finally:
        logger.setLevel(level)
