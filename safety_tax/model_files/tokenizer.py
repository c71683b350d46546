"""A model's tokenizer, as published: translated into what the pinned Transformers loads, and tried on a text."""

import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedTokenizerBase
from transformers.models.auto.tokenization_auto import tokenizer_class_from_name

from safety_tax.core.errors import PipelineError
from safety_tax.model_files.config import read_object
from safety_tax.model_files.embedding_rows import give_padding
from safety_tax.model_files.faults import FAULTS

SETTINGS, WHOLE = "tokenizer_config.json", "tokenizer.json"
PLAIN_CLASS = "PreTrainedTokenizerFast"
"""Computes what `tokenizer.json` says and nothing beside, as Transformers 5's TokenizersBackend does."""
INPUTS = ("input_ids", "attention_mask")
"""What a decoder takes; `generate` refuses others."""
SAMPLE = "What is 12 + 3? Naïve answers, please."


def translate_tokenizer(folder: Path, rows: int, name: str) -> PreTrainedTokenizerBase:
    """Rewrite `tokenizer_config.json` where it wants to be, and return the tokenizer that `folder` then holds.

    - a class, or a list of special tokens, of a newer Transformers goes by the pinned version's name;
    - `tokenizer(...)` gives what the network takes, and no `token_type_ids`;
    - a padding token has a row of the embeddings;
    - a text always gives the same tokens;
    - there is a `tokenizer.json`, which needs no other package.

    Raises PipelineError when the pinned Transformers cannot build it.
    """
    settings = read_object(folder / SETTINGS) if (folder / SETTINGS).exists() else {}
    pinned = _pinned(settings, folder)
    _write(pinned, settings, folder)
    tokenizer = load_tokenizer(folder, name)
    # Tokens that are dropped at random help training alone: a prompt would be another one every time.
    drops = bool(getattr(tokenizer.backend_tokenizer.model, "dropout", None))
    if drops:
        tokenizer.backend_tokenizer.model.dropout = None
    if drops or not (folder / WHOLE).exists():
        (folder / WHOLE).unlink(missing_ok=True)  # it may be a link into a cache
        tokenizer.backend_tokenizer.save(str(folder / WHOLE))
    mended = dict(pinned)
    if any(key not in INPUTS for key in tokenizer.model_input_names):
        mended["model_input_names"] = list(INPUTS)
    give_padding(tokenizer, rows)
    if (folder / SETTINGS).exists() and tokenizer.pad_token != _text(pinned.get("pad_token")):
        mended["pad_token"] = tokenizer.pad_token
    _write(mended, pinned, folder)
    return load_tokenizer(folder, name) if mended != pinned or drops else tokenizer


def load_tokenizer(folder: Path, name: str) -> PreTrainedTokenizerBase:
    """Build the tokenizer of `folder`, and use it once. Raises PipelineError when that fails."""
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        if not tokenizer(SAMPLE)["input_ids"]:
            raise ValueError(f"no tokens for the text {SAMPLE!r}")
        tokenizer.decode(tokenizer(SAMPLE)["input_ids"])
    except Exception as error:
        # The package `tokenizers` raises plain Exceptions, which are told by their exact type.
        if not isinstance(error, FAULTS) and type(error) is not Exception:
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise PipelineError(_next_step(folder, name, reason)) from None
    if not tokenizer.is_fast:
        raise PipelineError(_next_step(folder, name, f"{type(tokenizer).__name__}, which is not a fast one"))
    return tokenizer


def _pinned(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    pinned = dict(settings)
    named = pinned.get("tokenizer_class")
    # Transformers 5 writes all of a tokenizer into tokenizer.json. The pinned class of the same name adds its own BOS.
    newer = "backend" in pinned
    if named is not None and (folder / WHOLE).exists() and (newer or not _resolves(named)):
        pinned["tokenizer_class"] = PLAIN_CLASS
    extra = pinned.get("extra_special_tokens")
    if isinstance(extra, list):  # the pinned version wants them by name
        del pinned["extra_special_tokens"]
        known = [_text(token) for token in pinned.get("additional_special_tokens") or []]
        added = [token for token in extra if _text(token) not in known]
        pinned["additional_special_tokens"] = [*(pinned.get("additional_special_tokens") or []), *added]
    return pinned


def _resolves(named: Any) -> bool:
    if not isinstance(named, str):
        return False
    return any(tokenizer_class_from_name(found) for found in (named, f"{named.removesuffix('Fast')}Fast"))


def _text(token: Any) -> str | None:
    return token.get("content") if isinstance(token, dict) else token


def _write(settings: dict[str, Any], before: dict[str, Any], folder: Path) -> None:
    if settings != before:
        (folder / SETTINGS).unlink(missing_ok=True)  # it may be a link into a cache
        text = json.dumps(settings, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        (folder / SETTINGS).write_text(text, encoding="utf-8")


def _next_step(folder: Path, name: str, reason: str) -> str:
    if (folder / WHOLE).exists():
        step = "choose a commit whose tokenizer the pinned Transformers loads, or give the model as a folder"
    elif (folder / "tokenizer.model").exists():
        step = (
            "convert its tokenizer.model once: `pip install sentencepiece`, then `AutoTokenizer.from_pretrained(folder)"
            ".save_pretrained(folder)` writes a tokenizer.json; give that folder"
        )
    else:
        step = "choose a commit that has a tokenizer.json, or put the tokenizer's files beside the weights"
    found = f"no {WHOLE}, and " if not (folder / WHOLE).exists() else ""
    return f"Expected a tokenizer of {name!r} that the pinned Transformers builds, found {found}{reason}; {step}."
