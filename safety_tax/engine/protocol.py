"""What is asked of an engine, and what it gives: the one path from a prompt to its answer.

`running.run_items` hands a part to an `Engine`, which `opening.open_engine` opened; `dispatch` decides who does that.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol

from safety_tax.engine.batches import common_prefix
from safety_tax.engine.session import CPU, Float

if TYPE_CHECKING:  # the card kit runs without pydantic
    from safety_tax.settings.stages import Run


class Generated(NamedTuple):
    """New tokens, the end-of-sequence token left out but a string that ended them left in, and why they end."""

    tokens: list[int]
    finish_reason: Literal["stop", "length"]


class Question(NamedTuple):
    """Token ids of the context, and of context and option together, one list an option."""

    context: list[int]
    full: list[list[int]]

    def shared(self) -> int:
        """How many leading tokens the context and all options share: they run once."""
        return common_prefix([self.context, *self.full])

    @classmethod
    def encoded(cls, context: str, options: Sequence[str], encode: Callable[[str], list[int]]) -> "Question":
        """Encode context and option together, as lm-evaluation-harness does, and mark where the context ends."""
        return cls(encode(context), [encode(context + option) for option in options])


class Scores(NamedTuple):
    """Log-probability of each option's tokens (natural log, summed), and the mass on their first tokens."""

    logprobs: list[float]
    first_token_mass: float


@dataclass(frozen=True)
class StopText:
    """Strings that end an answer as soon as they stand in it."""

    strings: tuple[str, ...]
    decode: Callable[[list[int]], str]
    """Tokens to text."""

    def ends(self, tokens: list[int]) -> bool:
        """Whether one of the strings stands in the last tokens; asked after each of them, so the last completes it."""
        # A token holds a byte at least, unless it is a special one that decodes to nothing; a few more for these, and
        # since decoding may drop a space at the beginning.
        most = max(len(string.encode()) for string in self.strings) + 4
        text = self.decode(tokens[-most:])
        return any(string in text for string in self.strings)

    def before(self, text: str) -> str:
        """The text up to the first of the strings."""
        return text[: min((text.index(string) for string in self.strings if string in text), default=len(text))]


class Sampling(NamedTuple):
    """How the next token is chosen: the most likely at a temperature of 0, else drawn by its probability."""

    temperature: float
    seed: int


GREEDY = Sampling(0.0, 0)


@dataclass(frozen=True)
class Answers:
    """Requests: token ids of prompts, what ends an answer (a token, a length, a string), and each prompt's title."""

    name: str
    items: list[list[int]]
    stop: frozenset[int]
    titles: list[str]
    max_new_tokens: int
    stop_text: StopText | None = None
    sampling: Sampling = GREEDY

    def ended(self, tokens: list[int], last: int) -> Generated | None:
        """Appends `last` to an answer's `tokens` unless it is a stop token; the answer, when that ends it."""
        if last in self.stop:
            return Generated(tokens, "stop")
        tokens.append(last)
        if self.stop_text and self.stop_text.ends(tokens):
            return Generated(tokens, "stop")
        return Generated(tokens, "length") if len(tokens) == self.max_new_tokens else None


@dataclass(frozen=True)
class Questions:
    """Questions in one format, and what a person calls each of them."""

    name: str
    items: list[Question]
    titles: list[str]


Part = Answers | Questions
Result = Generated | Scores


@dataclass(frozen=True)
class Budget:
    """How much runs at once. `parts` divides it where memory was short; a plan is made as if it did not."""

    generation_tokens: int
    """Prompt and new tokens of the answers that are written together."""
    rows: int
    """Of a batch."""
    pass_tokens: int
    """Of prompts and questions in one pass of a grouped-query graph."""
    scoring_tokens: int
    """Of the questions in one pass of the plain graph."""
    parts: int = 1

    @classmethod
    def of(cls, run: "Run") -> "Budget":
        """What section `run` of params.yaml says."""
        return cls(run.generation_tokens, run.rows_per_batch, run.pass_tokens, run.scoring_tokens)

    def halved(self) -> "Budget":
        """Half as much at once."""
        return replace(self, parts=2 * self.parts)

    def exhausted(self) -> bool:
        """Whether less than one row or one token is left."""
        return self.parts > max(self.rows, self.pass_tokens)


def _nothing(*of: Any) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Hooks:
    """Whom a run tells: of progress (new tokens, or questions), of each item's result, of what a person reads, and of
    the items of each batch before it runs.
    """

    advance: Callable[[int], None] = _nothing
    finished: Callable[[int, Result], None] = _nothing
    say: Callable[[str], None] = _nothing
    started: Callable[[int], None] = _nothing


class Choice(NamedTuple):
    """What a model runs on, and by which engine."""

    provider: str
    engine: Literal["plain", "tree", "rows"]

    def attention(self) -> str:
        """The graph's name for a person."""
        return "plain" if self.engine == "plain" else "grouped-query"

    def exact(self) -> bool:
        """Whether no bit of a result depends on how much runs at once; elsewhere kernels differ in the last."""
        return self.provider == CPU and self.engine != "rows"


class Engine(Protocol):
    """A model that answers and scores. Results come in any order, each with its item's place in the part."""

    choice: Choice
    folder: Path
    padded: ClassVar[bool]
    """Rows of a batch are padded to one length: a window is measured over the padding, and an item has to fit alone."""
    together: ClassVar[bool]
    """All options of a question lie in one buffer, one after another."""

    def __init__(self, folder: Path, provider: str) -> None:
        """Load the model of `folder`. Raises PipelineError when it does not load, or runs on another provider."""

    @staticmethod
    def plan(part: Part, budget: Budget) -> list[list[int]]:
        """Which items run together: it depends on lengths, beginnings and budgets, on nothing that was run."""

    def generate(
        self, requests: Answers, wanted: Collection[int], budget: Budget, hooks: Hooks
    ) -> Iterator[tuple[int, Generated]]:
        """The wanted answers, each as soon as it ends. Raises PipelineError on logits that are not finite."""

    def score(
        self, questions: Questions, wanted: Collection[int], budget: Budget, hooks: Hooks
    ) -> Iterator[tuple[int, Scores]]:
        """Scores of the wanted questions. Raises PipelineError on logits that are not finite."""

    def by_steps(self, prompts: list[list[int]], targets: list[Float]) -> list[Float]:
        """For gates: log-probabilities [places, k] of `targets` after each token of the prompts' second halves, which
        are run one token after another, as an answer is.
        """

    def require_provider(self) -> None:
        """Raises PipelineError when the session has left the provider that was asked for."""
