"""The gate of `fetch_model`: what it lets through does not fail later for a reason that lies in the files."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from transformers import GenerationConfig, PreTrainedModel

from safety_tax.core.errors import PipelineError, did_you_mean
from safety_tax.core.tensor_files import Checkpoint, require_finite
from safety_tax.model_files.config import CONFIG, read_object, translate
from safety_tax.model_files.embedding_rows import beyond_rows
from safety_tax.model_files.network import FAULTS, empty_network, require_forward, require_shapes
from safety_tax.model_files.quantised import require_unpacked_tensors
from safety_tax.model_files.tokenizer import translate_tokenizer
from safety_tax.model_files.weights import drop_tensors, unread_tensors, write_missing_index
from safety_tax.tokens.encoder import Encoder
from safety_tax.tokens.ends import ANY_DAY

MOST_POSITIONS = 2**23  # the tables of a rotary embedding hold a row for each
ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
# Their heads may be of any size: the tests compare answers and scores with those of Transformers.
FREE_HEAD_SIZE = ("Qwen3ForCausalLM",)
COMPILED = "_orig_mod."
GENERATION = "generation_config.json"
QUESTION = "What is the capital of France?"


class Examined(NamedTuple):
    """A model whose files were translated and checked."""

    network: PreTrainedModel
    """Without weights."""
    checkpoint: Checkpoint
    unread: list[str]
    """Tensors that Transformers leaves unread."""


def examine(folder: Path, name: str) -> Examined:
    """Translate the settings of the model in `folder` into the pinned version's, and compare them with its tensors.

    One pass is computed over shapes alone. Values of weights are left to `settle`. Raises PipelineError, with the next
    step, for whatever a later stage would fail at.
    """
    with _told(folder, name):
        checkpoint, config, unread = _settled_weights(folder, name)
        network = empty_network(config, name)
        require_shapes(network, checkpoint, unread, name)
        require_forward(network, name)
        _settle_generation(folder, network.config, name)
    return Examined(network, checkpoint, unread)


def settle(folder: Path, name: str) -> int:
    """`examine`, and take out the tensors that nothing reads. Returns the number of parameters.

    Raises PipelineError when a tensor holds NaN or infinity, too.
    """
    drop_tensors(folder, examine(folder, name).unread)
    write_missing_index(folder)
    checkpoint = Checkpoint(folder)
    for tensor in checkpoint.names():
        require_finite(checkpoint.read(tensor), tensor, folder)
    return sum(checkpoint.size(tensor) for tensor in checkpoint.names())


def settle_tokenizer(folder: Path, name: str, rows: int) -> None:
    """Translate the tokenizer's settings, build it, and render the chat template.

    `rows` are the embeddings'. Raises PipelineError when one of these fails, or every prompt would hold a token without
    a row.
    """
    with _told(folder, name):
        tokenizer = translate_tokenizer(folder, rows, name)
        ids = Encoder.open(folder, name, ANY_DAY).chat(QUESTION)
    if found := beyond_rows(tokenizer, ids, rows):
        raise PipelineError(
            f"Expected the chat template of {name!r} to use tokens that have a row of the embeddings, {rows:,} "
            f"in all, found {found}; name one of data/chat_templates as `chat_template` in params.yaml, or choose a "
            "commit whose embeddings were resized."
        )


def settle_donor(folder: Path, name: str) -> None:
    """The same translation of a full checkpoint that is a donor: its configuration, and tensors that nothing reads."""
    with _told(folder, name):
        config = translate(folder / CONFIG, name)
        checkpoint = Checkpoint(folder)
        require_unpacked_tensors(checkpoint)
        drop_tensors(folder, unread_tensors(checkpoint, config))
        write_missing_index(folder)


def _settled_weights(folder: Path, name: str) -> tuple[Checkpoint, dict[str, Any], list[str]]:
    """The checkpoint, its translated configuration, and the tensors that are left unread; sizes agree."""
    if not (folder / CONFIG).exists():
        raise PipelineError(f"Expected a {CONFIG} among the files of {name!r}, found none; correct its source.")
    raw = read_object(folder / CONFIG)
    architecture = _require_architecture(raw, name)
    _require_no_code(folder, name)
    config = translate(folder / CONFIG, name, architectures=[architecture], model_type=ARCHITECTURES[architecture])
    head_size = _size(config, "hidden_size", name) // _size(config, "num_attention_heads", name)
    if architecture not in FREE_HEAD_SIZE and (config.get("head_dim") or head_size) != head_size:
        raise PipelineError(
            f"Expected head_dim = hidden_size / num_attention_heads = {head_size} in {name!r}, found "
            f"{config['head_dim']}, which is tried with {', '.join(FREE_HEAD_SIZE)} alone; choose another model."
        )
    if "max_position_embeddings" in config:
        positions = _size(config, "max_position_embeddings", name)
        if positions > MOST_POSITIONS:
            raise PipelineError(
                f"Expected max_position_embeddings of {MOST_POSITIONS:,} at most in {CONFIG} of {name!r}, found "
                f"{positions:,}; fetch it again."
            )
    checkpoint = Checkpoint(folder)
    require_unpacked_tensors(checkpoint)
    _require_sizes(checkpoint, config, name)
    unread = unread_tensors(checkpoint, config)
    return checkpoint, config, unread


def _require_architecture(config: dict[str, Any], name: str) -> str:
    """The name of the class. Raises PipelineError when it is not one of those that are tried, or not its type's."""
    architectures = config.get("architectures")
    if architectures is None:
        of_type = {kind: [name] for name, kind in ARCHITECTURES.items()}
        architectures = of_type.get(str(config.get("model_type")))
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else "none"
    if architecture not in ARCHITECTURES:
        nested = "text_config" in config
        step = "take its text model's weights out, and give them as a folder" if nested else ""
        raise PipelineError(
            f"Expected a model of {', '.join(ARCHITECTURES)}, found {architecture} in {name!r}; "
            f"{step + '.' if step else did_you_mean(architecture, ARCHITECTURES)}"
        )
    expected, found = ARCHITECTURES[architecture], config.get("model_type", ARCHITECTURES[architecture])
    if found != expected:
        raise PipelineError(
            f"Expected the model_type {expected!r} of {architecture} in {CONFIG} of {name!r}, found "
            f"{str(found)[:40]!r}, by which Transformers chooses the network; correct the one that is wrong."
        )
    return architecture


def _require_no_code(folder: Path, name: str) -> None:
    for file in sorted(folder.glob("*config.json")):
        if "auto_map" in read_object(file):
            raise PipelineError(
                f"Expected a model that Transformers knows, found one in {name!r} that brings its own code "
                f"(auto_map in {file.name}), which is never run; use a checkpoint without it."
            )


def _size(config: dict[str, Any], key: str, name: str) -> int:
    """A number of at least 1. Raises PipelineError when the config has none."""
    size = config.get(key)
    if type(size) is not int or size < 1:
        raise PipelineError(
            f"Expected a size as {key} in {CONFIG} of {name!r}, found {str(size)[:80]!r}; fetch it again."
        )
    return size


def _require_sizes(checkpoint: Checkpoint, config: dict[str, Any], name: str) -> None:
    """The config's sizes are the tensors', before anything of the config's size is built. Raises PipelineError."""
    keys = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    words, width, inner, depth = (_size(config, key, name) for key in keys)
    if compiled := [tensor for tensor in checkpoint.names() if tensor.startswith(COMPILED)]:
        raise PipelineError(
            f"Expected tensors by the names of Transformers in {name!r}, found {compiled[0][:120]}, as a network saves "
            f"itself after torch.compile; save its `_orig_mod` and give the folder."
        )
    layers = {tensor.split(".")[2] for tensor in checkpoint.names() if tensor.startswith("model.layers.")}
    if len(layers) != depth:
        raise PipelineError(
            f"Expected {depth:,} layers in the weights of {name!r}, as its {CONFIG} says, found {len(layers):,}; fetch "
            "the model again."
        )
    expected = {"model.embed_tokens.weight": (words, width), "model.layers.0.mlp.up_proj.weight": (inner, width)}
    for tensor, shape in expected.items():
        found = checkpoint.shape(tensor) if tensor in checkpoint else "none"
        if found != shape:
            raise PipelineError(
                f"Expected {tensor} of {name!r} in the shape {shape} of its {CONFIG}, found {found}; fetch the model "
                "again."
            )


def _settle_generation(folder: Path, config: Any, name: str) -> None:
    """Write the file that says what ends an answer, from config.json, where it is missing; load it otherwise."""
    if not (folder / GENERATION).exists():
        GenerationConfig.from_model_config(config).save_pretrained(folder)
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
