"""What the files of a tokenizer say: tokens, those that were added, the chat template, what ends a turn."""

from pathlib import Path
from typing import Any

from safety_tax.donors.model_config import read_config


def read_vocabulary(file: Path) -> dict[str, int] | None:
    """Token -> row. None without a file."""
    if not file.exists():
        return None
    tokenizer = read_config(file)
    vocabulary = (tokenizer.get("model") or {}).get("vocab") or {}
    if not isinstance(vocabulary, dict):  # unigram: a list of (token, score)
        vocabulary = {str(entry[0]): place for place, entry in enumerate(vocabulary)}
    return {**vocabulary, **added_tokens(file)}


def chat_template(folder: Path) -> str | None:
    """As it is stored, in a file of its own or in tokenizer_config.json. None without one."""
    if (folder / "chat_template.jinja").exists():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    template = _tokenizer_config(folder).get("chat_template")
    return template if template is None or isinstance(template, str) else str(template)


def added_tokens(file: Path) -> dict[str, int]:
    """Token -> row, of those outside of the model that was trained on text."""
    return {token["content"]: token["id"] for token in read_config(file).get("added_tokens") or []}


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    file = folder / "tokenizer_config.json"
    return read_config(file) if file.exists() else {}


def ends_of_turn(folder: Path, vocabulary: dict[str, int]) -> set[str]:
    """The tokens that end what the donor writes, as its files say."""
    end = _tokenizer_config(folder).get("eos_token")
    ends = {str(end.get("content")) if isinstance(end, dict) else str(end)}
    file = folder / "config.json"
    ids = read_config(file).get("eos_token_id") if file.exists() else None
    listed = ids if isinstance(ids, list) else [ids]
    return ends | {token for token, place in vocabulary.items() if place in listed}
