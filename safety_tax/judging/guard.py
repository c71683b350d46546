"""The judge `guard`: a generative guard model with its own template, its answers parsed strictly.

Items of a kind that the guard cannot label (see `guard_templates`) go to `rules`; their reason begins with "rules:".
"""

import datetime
import hashlib
import re
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from transformers import AutoConfig, PreTrainedTokenizerBase

from safety_tax.core.console import say
from safety_tax.core.errors import PipelineError, how_to_have
from safety_tax.core.progress import progress_bar
from safety_tax.core.workspace import JOURNALS
from safety_tax.dispatch.journal import Journal, folder_digest
from safety_tax.dispatch.runners import Here, ResumedRun
from safety_tax.engine.opening import open_engine
from safety_tax.engine.protocol import Answers, Engine, Generated
from safety_tax.engine.session import GRAPH
from safety_tax.judging import rules
from safety_tax.judging.exchange import Exchange
from safety_tax.judging.guard_templates import TEMPLATES
from safety_tax.judging.judgement import Judgement
from safety_tax.settings.stages import Run
from safety_tax.tokens.encoder import Encoder

# Of an answer that does not parse, this much is shown.
SHOWN_CHARACTERS = 40
OF_JUDGES = JOURNALS / "judge"


class GuardSettings(Protocol):
    """What `params.yaml` says of a guard; see `judges/guard.py`."""

    @property
    def model(self) -> str:
        """Its entry of `judge_models`."""

    @property
    def template(self) -> str:
        """Of `guard_templates`."""

    @property
    def max_new_tokens(self) -> int:
        """Of an answer."""


def load_guard(
    folder: Path, settings: GuardSettings, run: Run, date: datetime.date
) -> Callable[[Sequence[Exchange]], list[Judgement]]:
    """Raises PipelineError when there is no such guard, or the provider cannot be had."""
    if not (folder / GRAPH).exists():
        raise PipelineError(f"Expected an exported guard in {folder}, found none; {how_to_have()}.")
    engine = open_engine(folder, run)
    say(f"judge: guard {settings.model} on {engine.choice.provider}, {engine.choice.attention()} attention")
    return partial(label_exchanges, engine, Encoder.open(folder, settings.model, date), settings, run)


def label_exchanges(
    engine: Engine,
    encoder: Encoder,
    settings: GuardSettings,
    run: Run,
    exchanges: Sequence[Exchange],
) -> list[Judgement]:
    """A label for every exchange; raises PipelineError on an answer outside the guard's format."""
    kinds = TEMPLATES[settings.template].kinds
    asked = [exchange for exchange in exchanges if exchange.kind in kinds]
    if len(asked) < len(exchanges):
        others = sorted({exchange.kind for exchange in exchanges} - kinds)
        say(f"judge: {settings.template} cannot label {', '.join(others)}; {len(exchanges) - len(asked):,} go to rules")
    labelled = iter(ask(engine, encoder, settings, run, asked) if asked else [])
    return [next(labelled) if exchange.kind in kinds else _by_rules(exchange) for exchange in exchanges]


def ask(
    engine: Engine,
    encoder: Encoder,
    settings: GuardSettings,
    run: Run,
    exchanges: Sequence[Exchange],
) -> list[Judgement]:
    """The guard's own labels, by its most likely answer to each exchange; a run that was stopped goes on.

    Raises PipelineError as `Run.results` does, and on an answer outside the guard's format.
    """
    prompts = [token_ids(engine.folder, encoder, settings, exchange) for exchange in exchanges]
    titles = [f"item {exchange.id}" for exchange in exchanges]
    part = Answers("verdicts", prompts, encoder.ends.tokens, titles, settings.max_new_tokens)
    # Of these exchanges alone: another variant's judging, when it ends, removes its own.
    asked = hashlib.sha256(repr(prompts).encode()).hexdigest()[:16]
    journal = Journal(OF_JUDGES / f"{settings.model}-{asked}.jsonl")
    if journal.dropped:
        say(f"judge: {journal.dropped} torn or damaged lines of {journal.path} are left out; their items run again")
    with progress_bar() as progress:
        task = progress.add_task("verdicts", total=len(prompts) * settings.max_new_tokens, unit="tokens")
        answering = ResumedRun(engine.folder, run, Here(engine, run), journal, folder_digest(engine.folder))
        answers = answering.results(
            part, say, lambda tokens: progress.advance(task, tokens), lambda tokens: progress.take_up(task, tokens)
        )
        progress.update(task, total=progress.tasks[task].completed)
    judgements = []
    for exchange, generated in zip(exchanges, answers, strict=True):
        assert isinstance(generated, Generated)
        answer = encoder.decode(generated.tokens).strip()
        judgement = TEMPLATES[settings.template].read(answer) if generated.finish_reason == "stop" else None
        if judgement is None:
            shown = answer if len(answer) <= SHOWN_CHARACTERS else answer[:SHOWN_CHARACTERS] + "…"
            raise PipelineError(
                f"Expected {settings.model} to answer in the format of {settings.template} on item {exchange.id}, "
                f"found {shown!r}{' at the token limit' if generated.finish_reason == 'length' else ''}; "
                "check judge.template and judge.max_new_tokens in params.yaml."
            )
        judgements.append(judgement)
    journal.remove()
    return judgements


def token_ids(folder: Path, encoder: Encoder, settings: GuardSettings, exchange: Exchange) -> list[int]:
    """The exchange in the guard's template. Raises PipelineError when it is longer than the guard reads."""
    prompt, response = (
        without_special_tokens(encoder.tokenizer, text) for text in (exchange.prompt, exchange.response)
    )
    rendered = TEMPLATES[settings.template].render(encoder, prompt, response)
    ids = encoder.bare(rendered)
    longest = AutoConfig.from_pretrained(folder).max_position_embeddings
    if len(ids) + settings.max_new_tokens > longest:
        raise PipelineError(
            f"Expected item {exchange.id} to fit the {longest:,} tokens of {settings.model}, found {len(ids):,} and "
            f"{settings.max_new_tokens} for the answer; choose a guard that reads more."
        )
    return ids


def without_special_tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    """The text with a space for every special token that it spells out.

    One would end the text's turn, and let a response answer for the guard.
    """
    special = [re.escape(token.content) for token in tokenizer.added_tokens_decoder.values() if token.special]
    return re.sub("|".join(special), " ", text) if special else text


def _by_rules(exchange: Exchange) -> Judgement:
    judgement = rules.judge(exchange.response, exchange.finish_reason)
    return judgement._replace(rule=f"rules:{judgement.rule}")
