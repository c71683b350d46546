"""A model source -> `models/base/<model>/`: safetensors, config, tokenizer.  `python -m stages.fetch_model MODEL`"""

import argparse
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.lib.console import run_stage, say
from stages.lib.errors import PipelineError, did_you_mean
from stages.lib.files import folder_written_atomically, written_atomically
from stages.lib.params import Model, load_params
from stages.lib.sources import fetch, put
from stages.lib.tensor_files import Checkpoint, require_finite
from stages.lib.text_files import read_text

TEMPLATES = Path("data/chat_templates")
PICKLES = (".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".npy", ".npz", ".h5", ".mar")
MOST_POSITIONS = 2**23  # the tables of a rotary embedding hold a row for each
ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
# Their heads may be of any size: the tests compare answers and scores with those of Transformers.
FREE_HEAD_SIZE = ("Qwen3ForCausalLM",)


def bring(model: Model, folder: Path) -> None:
    """Write the model's files into `folder`, converting a GGUF file on the way."""
    with TemporaryDirectory(prefix="safety-tax-") as scratch:
        found = fetch(model.source, Path(scratch))
        if found.suffix == ".gguf":
            # torch and Transformers are needed for this kind of source alone.
            import torch

            from stages.lib.sources.gguf_model import convert

            convert(found, folder, getattr(torch, model.dtype))
            return
        for file in sorted(found.iterdir()):
            if file.suffix.lower() in PICKLES:
                raise PipelineError(
                    f"Expected safetensors only, found pickled weights in {file}; convert them and remove the file."
                )
            if file.is_file() and file.suffix in (".safetensors", ".json", ".jinja", ".model", ".txt"):
                put(file, folder / file.name, model.source)


def give_template(name: str, folder: Path) -> None:
    """Give the model the chat template `data/chat_templates/<name>.jinja`; `own` leaves the model's.

    Raises PipelineError when there is no such template.
    """
    if name != "own":
        file = TEMPLATES / f"{name}.jinja"
        if not file.exists():
            known = [path.stem for path in TEMPLATES.glob("*.jinja")]
            raise PipelineError(
                f"Expected a chat template in {file}, found none; {did_you_mean(name, ['own', *known])}"
            )
        text = read_text(file)  # a byte-order mark would stand in every prompt
        with written_atomically(folder / "chat_template.jinja") as partial:  # it may be a link into a cache
            partial.write_text(text, encoding="utf-8", newline="\n")


def name_ends(folder: Path, name: str) -> None:
    """Let the model's generation config name every token that ends an answer, for whoever loads it or its variants."""
    from transformers import AutoTokenizer  # only here: it takes a second

    from stages.lib.tokens.ends import ends_of, state_ends

    state_ends(folder, ends_of(folder, AutoTokenizer.from_pretrained(folder), name).tokens)


def check(folder: Path) -> int:
    """The gate: a known architecture and finite weights. Returns the number of parameters.

    Raises PipelineError otherwise.
    """
    if not (folder / "config.json").exists():
        raise PipelineError(
            f"Expected a config.json among the files of {folder.name!r}, found none; correct its source."
        )
    config = _read_config(folder / "config.json")
    architectures = config.get("architectures")
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else "none"
    if architecture not in ARCHITECTURES:
        raise PipelineError(
            f"Expected a model of {', '.join(ARCHITECTURES)}, found {architecture} in {folder.name!r}; "
            f"{did_you_mean(architecture, ARCHITECTURES)}"
        )
    for file in sorted(folder.glob("*config.json")):
        if "auto_map" in _read_config(file):
            raise PipelineError(
                f"Expected a model that Transformers knows, found one in {folder.name!r} that brings its own code "
                f"(auto_map in {file.name}), which is never run; use a checkpoint without it."
            )
    head_size = _size(config, "hidden_size", folder) // _size(config, "num_attention_heads", folder)
    if architecture not in FREE_HEAD_SIZE and (config.get("head_dim") or head_size) != head_size:
        raise PipelineError(
            f"Expected head_dim = hidden_size / num_attention_heads = {head_size} in {folder.name!r}, found "
            f"{config['head_dim']}, which is tried with {', '.join(FREE_HEAD_SIZE)} alone; choose another model."
        )
    if "max_position_embeddings" in config:
        positions = _size(config, "max_position_embeddings", folder)
        if positions > MOST_POSITIONS:
            raise PipelineError(
                f"Expected max_position_embeddings of {MOST_POSITIONS:,} at most in config.json of "
                f"{folder.name!r}, found {positions:,}; fetch it again."
            )
    checkpoint = Checkpoint(folder)
    _require_sizes(checkpoint, config)
    for name in checkpoint.names():
        require_finite(checkpoint.read(name), name, folder)
    return sum(checkpoint.size(name) for name in checkpoint.names())


def _read_config(file: Path) -> dict[str, Any]:
    """A JSON object. Raises PipelineError when the file is none."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        config = None
    if not isinstance(config, dict):
        raise PipelineError(
            f"Expected a JSON object in {file.name} of {file.parent.name!r}, found something else; fetch it again."
        )
    return config


def _size(config: dict[str, Any], key: str, folder: Path) -> int:
    """A number of at least 1. Raises PipelineError when the config has none."""
    size = config.get(key)
    if type(size) is not int or size < 1:
        raise PipelineError(
            f"Expected a size as {key} in config.json of {folder.name!r}, found {str(size)[:80]!r}; fetch it again."
        )
    return size


def _require_sizes(checkpoint: Checkpoint, config: dict[str, Any]) -> None:
    """The config's sizes are the tensors', before anything of the config's size is allocated. Raises PipelineError."""
    keys = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers")
    words, width, inner, depth = (_size(config, key, checkpoint.path) for key in keys)
    layers = {name.split(".")[2] for name in checkpoint.names() if name.startswith("model.layers.")}
    if len(layers) != depth:
        raise PipelineError(
            f"Expected {depth:,} layers in the weights of {checkpoint.path.name!r}, as its "
            f"config.json says, found {len(layers):,}; fetch the model again."
        )
    expected = {
        "model.embed_tokens.weight": (words, width),
        "model.layers.0.mlp.up_proj.weight": (inner, width),
    }
    for name, shape in expected.items():
        found = checkpoint.shape(name) if name in checkpoint else "none"
        if found != shape:
            raise PipelineError(
                f"Expected {name} of {checkpoint.path.name!r} in the shape {shape} of its config.json, found {found}; "
                "fetch the model again."
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    name = parser.parse_args().model
    params = load_params()
    say(f"fetch_model: {name}")
    with folder_written_atomically(Path("models/base") / name) as folder:
        bring(params.model(name), folder)
        give_template(params.model(name).chat_template, folder)
        parameters = check(folder)
        name_ends(folder, name)
    say(f"fetch_model: {name}, {parameters:,} parameters")


if __name__ == "__main__":
    run_stage(main)
