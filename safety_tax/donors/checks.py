"""What must be the same before and after a merge: tensors, vocabulary, tied embeddings, chat template, tokenizer."""

import hashlib
import json
from pathlib import Path
from typing import Any

from safety_tax.core.errors import PipelineError
from safety_tax.core.tensor_files import Checkpoint
from safety_tax.donors.model_config import read_config
from safety_tax.donors.vocabulary import added_tokens, chat_template, ends_of_turn, read_vocabulary

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
    template = chat_template(folder)
    if template is not None:
        facts["chat_template_hash"] = _hash(template)
    return facts


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

    Prompts are made of the base's tokens. A token without a row of the embeddings means nothing. One that a side has
    added matters only where the base's chat template writes it, or where the donor ends its turns with it.
    """
    ours, theirs = (read_vocabulary(folder / "tokenizer.json") for folder in (base, donor))
    if ours is None or theirs is None:
        return
    rows = read_config(base / "config.json").get("vocab_size")
    rows = rows if isinstance(rows, int) else max(ours.values(), default=0) + 1
    ours = {token: row for token, row in ours.items() if row < rows}
    template = chat_template(base) or ""
    spare = {token for token in added_tokens(base / "tokenizer.json") if token not in template}
    places = set(ours.values())
    ends = ends_of_turn(donor, theirs)
    strange = [
        token
        for token, place in ours.items()
        if theirs.get(token) != place and not (token in spare and token not in theirs)
    ]
    strange += [
        token
        for token, place in theirs.items()
        if token not in ours and (place in places or token in template or token in ends)
    ]
    if strange:
        token = min(strange)
        why = ", by which the donor ends its turns," if token in ends and token not in ours else ""
        raise PipelineError(
            f"Expected donor {donor.name!r} to have the base's vocabulary, found token {token!r}{why} with another id "
            f"or none in one of {donor / 'tokenizer.json'} and {base}; choose a donor of this base."
        )
