"""Texts to token ids, with what a tokenizer puts around a text handled in this place alone."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from safety_tax.core.errors import PipelineError
from safety_tax.tokens.chat_template import Turns, rendered_chat
from safety_tax.tokens.ends import Ends, ends_of
from safety_tax.tokens.thoughts import CHANNEL_MARKS, closing, is_mark, opened_by

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PROBE = "hi"


class Surroundings(NamedTuple):
    """Token ids that the tokenizer puts before a text (BOS) and after it (EOS) by itself."""

    before: list[int]
    after: list[int]


@dataclass(frozen=True)
class Encoder:
    """A model's tokenizer and chat template, as every stage uses them."""

    tokenizer: "PreTrainedTokenizerBase"
    name: str
    """What sentences call the model."""
    date: datetime.date
    """The day that a chat template is told."""
    around: Surroundings
    ends: Ends

    @classmethod
    def open(cls, folder: Path, name: str, date: datetime.date) -> "Encoder":
        """Of the model in a folder. Raises PipelineError where its tokenizer surrounds texts in a way of its own."""
        from transformers import AutoTokenizer  # only here: it takes a second

        tokenizer = AutoTokenizer.from_pretrained(folder)
        return cls(tokenizer, name, date, surroundings(tokenizer, name), ends_of(folder, tokenizer, name))

    def bare(self, text: str) -> list[int]:
        """The text's own tokens."""
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def text(self, text: str) -> list[int]:
        """A plain text that goes on: what the tokenizer puts before a text, and nothing after it."""
        return [*self.around.before, *self.bare(text)]

    def texts(self, texts: Sequence[str]) -> list[list[int]]:
        """`text` of each, in one call: the tokenizer spreads them over the processor's cores."""
        every: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
        return [[*self.around.before, *ids] for ids in every]

    def chat(self, text: str) -> list[int]:
        """One user turn in the chat template, up to where the answer begins: it has BOS where the template renders it.

        Raises PipelineError when the model has no chat template.
        """
        return self.bare(self.chat_text(text))

    def chat_text(self, text: str) -> str:
        """The same as text."""
        if not self.tokenizer.chat_template:
            raise PipelineError(
                f"Expected a chat template with the model {self.name!r}, found none; "
                "name one of data/chat_templates as `chat_template` of its catalog entry in params.yaml."
            )
        return self.render([{"role": "user", "content": text}], add_generation_prompt=True)

    def answered_chat(self, text: str, answer: str) -> tuple[list[int], list[int]]:
        """The tokens of `chat`, and those of the answer after it, closed by the end of the turn.

        White space around the answer is the template's: SentencePiece would begin a text of its own with another one.
        Where the template opens a thought, the answer closes it first: it holds none.
        """
        prompt, asked = self.chat(text), self.chat_text(text)
        turns = [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
        try:
            whole = self.render(turns, add_generation_prompt=False)
        except PipelineError:
            whole = ""  # a template may take no answers
        end = self.end_of_turn()
        said = _said(asked, whole, answer.strip(), str(self.tokenizer.convert_ids_to_tokens(end)))
        if mark := opened_by(asked).strip():
            said = f"{'' if asked.endswith(chr(10)) else chr(10)}{closing(mark)}\n\n{said}"
        ids = self.bare(asked + said)
        response = ids[len(prompt) :] if ids[: len(prompt)] == prompt else self.bare(said)
        return prompt, response if response[-1:] == [end] else [*response, end]

    def end_of_turn(self) -> int:
        """The token that closes a tuned answer. Raises PipelineError where nothing names one."""
        if self.ends.of_turn is None:
            raise PipelineError(
                f"Expected a token that ends an answer of {self.name!r} (eos_token_id in config.json, "
                "generation_config.json or the tokenizer), found none; name one in its generation_config.json."
            )
        return self.ends.of_turn

    def render(self, turns: Turns, *, add_generation_prompt: bool) -> str:
        """The turns in the chat template. Raises PipelineError as `rendered_chat` does."""
        return rendered_chat(self.tokenizer, turns, self.name, self.date, add_generation_prompt=add_generation_prompt)

    @cached_property
    def _marks(self) -> dict[int, str]:
        """Special tokens that begin or end a thought."""
        added = self.tokenizer.added_tokens_decoder.items()
        special = {number: token.content for number, token in added if token.special}
        channels = frozenset(CHANNEL_MARKS if "<|channel|>" in special.values() else ())
        return {number: token for number, token in special.items() if token in channels or is_mark(token)}

    def decode(self, tokens: list[int]) -> str:
        """Tokens to text, special ones left out, but for those that tell a thought from an answer."""
        marks, place, pieces = self._marks, 0, list[str]()
        for end, token in enumerate(tokens) if marks else ():
            if token in marks:
                pieces += [self.tokenizer.decode(tokens[place:end], skip_special_tokens=True), marks[token]]
                place = end + 1
        return "".join([*pieces, self.tokenizer.decode(tokens[place:], skip_special_tokens=True)])


def _said(asked: str, whole: str, answer: str, end: str) -> str:
    """What the template renders for an answer after the prompt `asked`: up to the end of the turn, where it is there.

    `whole` is the conversation with the answer. Thoughts that a template puts before one are left out.
    """
    before, found, after = whole.rpartition(answer)
    if not found:
        return answer
    lead = before.removeprefix(asked) if before.startswith(asked) else ""
    trail = after[: after.index(end) + len(end)] if after.lstrip().startswith(end) else ""
    return (lead if not lead.strip() else "") + answer + trail


def surroundings(tokenizer: "PreTrainedTokenizerBase", name: str) -> Surroundings:
    """What the tokenizer puts around a text, found out by trying.

    Raises PipelineError where it changes the text's own tokens, too.
    """
    whole: list[int] = tokenizer(PROBE)["input_ids"]
    bare: list[int] = tokenizer(PROBE, add_special_tokens=False)["input_ids"]
    for place in range(len(whole) - len(bare) + 1):
        if bare and whole[place : place + len(bare)] == bare:
            return Surroundings(whole[:place], whole[place + len(bare) :])
    raise PipelineError(
        f"Expected the tokenizer of {name!r} to put special tokens before and after a text alone, found that it writes "
        f"{PROBE!r} as {whole} with them and as {bare} without; correct its tokenizer.json."
    )
