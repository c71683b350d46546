"""Which tokens end an answer: what the model's files name, and what its chat template closes an answer with."""

import datetime
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from safety_tax.core.errors import PipelineError
from safety_tax.core.files import write_json
from safety_tax.core.text_files import read_json_object
from safety_tax.tokens.chat_template import Turns, rendered_chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CONFIG, GENERATION = "config.json", "generation_config.json"
ANSWER = "Zq7 is the answer"  # stands in no template
CONVERSATION: Turns = [
    {"role": "user", "content": "What is Zq7?"},
    {"role": "assistant", "content": ANSWER},
    {"role": "user", "content": "Why?"},
]
# For what hangs on no date.
ANY_DAY = datetime.date(2000, 1, 1)
# What looks like a special token, and is no text that a model would be asked for.
MARKED = (("<|", "|>"), ("<｜", "｜>"))  # the latter are DeepSeek's
MARKS = ("<s>", "</s>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")


class Ends(NamedTuple):
    """Token ids that end an answer, and the one among them that a tuned answer is closed with."""

    tokens: frozenset[int]
    of_turn: int | None
    """None where nothing names one."""


class Stops(NamedTuple):
    """What a catalogue entry's `stop` means: special tokens by id, and texts."""

    tokens: frozenset[int]
    texts: tuple[str, ...]


def ends_of(folder: Path, tokenizer: "PreTrainedTokenizerBase", name: str) -> Ends:
    """The union of what config, generation config, tokenizer and chat template say. A model seldom names all of them.

    Of the turn, the template's own end comes first, then the tokenizer's, then the files'.
    """
    turn = end_of_turn(tokenizer, name)
    own = [turn, tokenizer.eos_token_id, *_named(folder / GENERATION), *_named(folder / CONFIG)]
    there = [end for end in own if end is not None]
    return Ends(frozenset(there), there[0] if there else None)


def _named(file: Path) -> list[int]:
    """`eos_token_id` of a JSON file, which may be one, several, or absent with the file."""
    named = read_json_object(file).get("eos_token_id") if file.exists() else None
    ends = named if isinstance(named, list) else [] if named is None else [named]
    if not all(type(end) is int and end >= 0 for end in ends):
        raise PipelineError(
            f"Expected token ids as eos_token_id in {file}, found {str(named)[:80]}; correct it at its source."
        )
    return ends


def end_of_turn(tokenizer: "PreTrainedTokenizerBase", name: str) -> int | None:
    """The token that follows an assistant's message in the chat template, white space aside; None without one.

    After the last message first: between two turns, what follows may already begin the next one.
    """
    if not tokenizer.chat_template:
        return None
    for turns in (CONVERSATION[:2], CONVERSATION):
        try:
            rendered = rendered_chat(tokenizer, turns, name, ANY_DAY, add_generation_prompt=False)
        except PipelineError:
            continue  # a template may take no answers: what is asked is the user's turn alone
        after = rendered.rpartition(ANSWER)[2].lstrip() if ANSWER in rendered else ""
        following = [(text, number) for text, number in added_tokens(tokenizer).items() if after.startswith(text)]
        if following:
            return max(following, key=lambda token: len(token[0]))[1]
    return None


def added_tokens(tokenizer: "PreTrainedTokenizerBase") -> dict[str, int]:
    """Tokens that are found in a text whole, special ones among them, but for those of white space."""
    return {token.content: number for number, token in tokenizer.added_tokens_decoder.items() if token.content.strip()}


def stops_of(stops: Sequence[str], tokenizer: "PreTrainedTokenizerBase", name: str) -> Stops:
    """Special tokens among the `stop` of a catalogue entry by their ids, the others as text.

    Raises PipelineError for a special token that the model does not have, or that stands within a text: decoding
    leaves it out, so that such a text would never be found.
    """
    added = added_tokens(tokenizer)
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    tokens, texts = set(), []
    for stop in stops:
        word = stop.strip()
        if word in added:
            tokens.add(added[word])
            continue
        marked = any(word.startswith(start) and word.endswith(end) for start, end in MARKED) or word in MARKS
        within = next((token for token in special if token.strip() and token in stop), None)
        if marked or within:
            found = f"{stop!r}, which is no token of it" if within is None else f"{within!r} within {stop!r}"
            known = ", ".join(sorted(token for token in special if token.strip())[:8]) or "none"
            raise PipelineError(
                f"Expected each `stop` of catalog.{name} in params.yaml to be a text, or one special token of the "
                f"model, found {found}; its special tokens are: {known}."
            )
        texts.append(stop)
    return Stops(frozenset(tokens), tuple(texts))


def state_ends(folder: Path, ends: frozenset[int]) -> None:
    """Let `generation_config.json` of a model's folder name these ends; a file that does so already stays as it is."""
    file = folder / GENERATION
    if not ends or (file.exists() and frozenset(_named(file)) == ends):
        return
    content: dict[str, Any] = read_json_object(file) if file.exists() else {}
    if not content:
        config = read_json_object(folder / CONFIG)
        content = {key: config[key] for key in ("bos_token_id", "pad_token_id") if config.get(key) is not None}
    # Atomically: the file may be a link into a cache.
    write_json(file, content | {"eos_token_id": sorted(ends) if len(ends) > 1 else min(ends)})
