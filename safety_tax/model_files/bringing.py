"""A model's files from its source, with the chat template that params.yaml names, through the gate."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from safety_tax.core.errors import PipelineError, did_you_mean
from safety_tax.core.files import written_atomically
from safety_tax.core.text_files import read_text
from safety_tax.core.workspace import CHAT_TEMPLATES
from safety_tax.model_files.config import CONFIG, read_object
from safety_tax.model_files.gathering import model_files
from safety_tax.model_files.weights import store_as
from safety_tax.settings.catalog import Model
from safety_tax.sources import fetch, put


def bring(model: Model, folder: Path) -> None:
    """Write the model's files into `folder`, converting a GGUF file on the way."""
    with TemporaryDirectory(prefix="safety-tax-") as scratch:
        found = fetch(model.source, Path(scratch))
        if found.suffix == ".gguf":
            import torch

            from safety_tax.sources.gguf_model import convert

            convert(found, folder, getattr(torch, model.dtype))
            return
        for file in model_files(found):
            put(file, folder / file.name, model.source)


def give_template(name: str, folder: Path) -> None:
    """Give the model the chat template `data/chat_templates/<name>.jinja`; `own` leaves the model's.

    Models that see may have theirs in `chat_template.json`, which only a processor reads: it becomes a file that the
    tokenizer reads. Raises PipelineError when there is no such template.
    """
    template = folder / "chat_template.jinja"
    if name == "own":
        beside = folder / "chat_template.json"
        if beside.exists() and not template.exists() and not _settings(folder).get("chat_template"):
            text = read_object(beside).get("chat_template")
            if isinstance(text, list):  # by name
                named = [one for one in text if isinstance(one, dict) and one.get("name") == "default"]
                text = named[0].get("template") if named else None
            if isinstance(text, str):
                template.write_text(text, encoding="utf-8", newline="\n")
    else:
        file = CHAT_TEMPLATES / f"{name}.jinja"
        if not file.exists():
            known = [path.stem for path in CHAT_TEMPLATES.glob("*.jinja")]
            raise PipelineError(
                f"Expected a chat template in {file}, found none; {did_you_mean(name, ['own', *known])}"
            )
        text = read_text(file)  # a byte-order mark would stand in every prompt
        with written_atomically(template) as partial:  # it may be a link into a cache
            partial.write_text(text, encoding="utf-8", newline="\n")


def _settings(folder: Path) -> dict[str, Any]:
    file = folder / "tokenizer_config.json"
    return read_object(file) if file.exists() else {}


def name_ends(folder: Path, name: str) -> None:
    """Let the model's generation config name every token that ends an answer, for whoever loads it or its variants."""
    from transformers import AutoTokenizer  # only here: it takes a second

    from safety_tax.tokens.ends import ends_of, state_ends

    state_ends(folder, ends_of(folder, AutoTokenizer.from_pretrained(folder), name).tokens)


def check(folder: Path, name: str | None = None) -> int:
    """The gate of weights and configuration; see `settle`. Returns the number of parameters."""
    # torch and Transformers take seconds to import: who may not have the model is told before.
    from safety_tax.model_files.gate import settle

    return settle(folder, name or folder.name)


def give_type(dtype: str, folder: Path, name: str) -> None:
    """Store the weights in the type that they are exported and merged in; see `store_as`. No later stage converts them.

    A checkpoint that has that type keeps its files.
    """
    if store_as(folder, np.dtype(dtype), name):
        file = folder / CONFIG
        config = read_object(file)
        config |= {key: dtype for key in ("dtype", "torch_dtype") if key in config}
        with written_atomically(file) as partial:  # it may be a link into a cache
            partial.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def check_tokenizer(folder: Path, name: str) -> None:
    """The gate of tokenizer and chat template, after `check`; see `settle_tokenizer`."""
    from safety_tax.model_files.gate import settle_tokenizer

    settle_tokenizer(folder, name, read_object(folder / CONFIG)["vocab_size"])
