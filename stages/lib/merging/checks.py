"""What must be the same before and after a merge: tensors, vocabulary, tied embeddings, chat template, tokenizer."""

import hashlib
import json
from pathlib import Path
from typing import Any

from stages.lib.errors import PipelineError
from stages.lib.merging.donors import read_config
from stages.lib.tensor_files import Checkpoint

MAY_CHANGE = ("dtype",)


def describe(folder: Path) -> dict[str, Any]:
    """What a model folder says of itself; a hash is the first 16 hex digits of SHA-256, absent where there is none."""
    tensors = Checkpoint(folder, "model*.safetensors")
    config = read_config(folder / "config.json")
    shapes = {name: list(tensors.shape(name)) for name in tensors.names()}
    facts: dict[str, Any] = {
        "tensors": len(shapes),
        "shapes_hash": _hash(json.dumps(shapes, sort_keys=True)),
        "vocabulary": config.get("vocab_size"),
        "tied_embeddings": bool(config.get("tie_word_embeddings")) and "lm_head.weight" not in tensors,
        "dtype": sorted({str(tensors.dtype(name)) for name in shapes}),
    }
    if (folder / "tokenizer.json").exists():
        facts["tokenizer_hash"] = _hash((folder / "tokenizer.json").read_text(encoding="utf-8"))
    template = _chat_template(folder)
    if template is not None:
        facts["chat_template_hash"] = _hash(template)
    return facts


def _chat_template(folder: Path) -> str | None:
    if (folder / "chat_template.jinja").exists():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    if (folder / "tokenizer_config.json").exists():
        template = read_config(folder / "tokenizer_config.json").get("chat_template")
        return None if template is None else json.dumps(template)
    return None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def require_unchanged(before: dict[str, Any], after: dict[str, Any], where: str) -> None:
    """Raises PipelineError when a merge changed what it must leave alone."""
    for key in before.keys() | after.keys():
        if key not in MAY_CHANGE and before.get(key) != after.get(key):
            raise PipelineError(
                f"Expected the merge to keep the base's {key} {before.get(key)!r}, found {after.get(key)!r} in "
                f"{where}; report this as a fault of the merge stage."
            )


def require_same_vocabulary(base: Path, donor: Path) -> None:
    """A donor with another tokenizer means other words by the same rows. Raises PipelineError for one.

    A token without a row of the embeddings means nothing, and prompts hold the base's tokens alone: one that only the
    donor has, in a row that the base has no token for, is no reason.
    """
    ours, theirs = (_vocabulary(folder / "tokenizer.json") for folder in (base, donor))
    if ours is None or theirs is None:
        return
    rows = read_config(base / "config.json").get("vocab_size")
    rows = rows if isinstance(rows, int) else max(ours.values(), default=0) + 1
    ours, theirs = ({token: row for token, row in of.items() if row < rows} for of in (ours, theirs))
    used = set(ours.values())
    theirs = {token: row for token, row in theirs.items() if token in ours or row in used}
    if ours != theirs:
        token = next(iter(sorted(theirs.items() - ours.items()) or sorted(ours.items() - theirs.items())))
        raise PipelineError(
            f"Expected donor {donor.name!r} to have the base's vocabulary, found token {token[0]!r} with another id or "
            f"none in one of {donor / 'tokenizer.json'} and {base}; choose a donor of this base."
        )


def _vocabulary(file: Path) -> dict[str, int] | None:
    if not file.exists():
        return None
    tokenizer = read_config(file)
    vocabulary = (tokenizer.get("model") or {}).get("vocab") or {}
    if not isinstance(vocabulary, dict):  # unigram: a list of (token, score)
        vocabulary = {str(entry[0]): place for place, entry in enumerate(vocabulary)}
    return {**vocabulary, **{token["content"]: token["id"] for token in tokenizer.get("added_tokens") or []}}
