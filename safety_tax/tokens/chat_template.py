"""A model's chat template, rendered in Transformers' sandbox: within limits, and the same text on every day."""

import datetime
import random
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from jinja2 import TemplateError

from safety_tax.core.errors import PipelineError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Turns = list[dict[str, str]]
# A chat template is a program that came with a model. These are far beyond any that was published.
TEMPLATE_CHARACTERS = 100_000
TEMPLATE_SECONDS = 10.0
RENDERED_CHARACTERS = 100_000
"""What a template may add to a text."""
OTHER = "name one of data/chat_templates as `chat_template` in params.yaml."
ADDRESS = re.compile(r"<[^<>\n]* at 0x[0-9a-f]+>")
"""What Python prints of an object without a text of its own: another number in every process."""
# They differ in year, month, day and weekday.
TWO_DAYS = (datetime.date(2001, 2, 3), datetime.date(2012, 11, 28))


def rendered_chat(
    tokenizer: "PreTrainedTokenizerBase",
    turns: Turns,
    model: str,
    date: datetime.date,
    *,
    add_generation_prompt: bool,
) -> str:
    """The turns in the tokenizer's chat template; `date` is the day that a template is told when it asks.

    Raises PipelineError when the template has a fault, asks for what the sandbox forbids, meets a limit, or renders a
    text that is another one in every process.
    """
    template = str(tokenizer.chat_template)
    if len(template) > TEMPLATE_CHARACTERS:
        raise PipelineError(
            f"Expected the chat template of {model!r} to have at most {TEMPLATE_CHARACTERS:,} characters, found "
            f"{len(template):,}; {OTHER}"
        )
    try:
        with _time_limit(TEMPLATE_SECONDS), _fixed_choices():
            rendered = str(
                tokenizer.apply_chat_template(
                    turns,
                    add_generation_prompt=add_generation_prompt,
                    tokenize=False,
                    # What Transformers offers to templates says today's date; Llama's takes the other of a caller.
                    strftime_now=partial(_on, date),
                    date_string=_on(date, "%d %b %Y"),
                )
            )
    except (
        TemplateError,
        ArithmeticError,
        LookupError,
        TypeError,
        ValueError,
        MemoryError,
        RecursionError,
        SyntaxError,
    ) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PipelineError(
            f"Expected the chat template of {model!r} to render a conversation, found: {reason}; {OTHER}"
        ) from None
    except TimeoutError:
        raise PipelineError(
            f"Expected the chat template of {model!r} to render within {TEMPLATE_SECONDS:g} seconds, found it still at "
            f"work; {OTHER}"
        ) from None
    content = "".join(turn["content"] for turn in turns)
    if len(rendered) - len(content) > RENDERED_CHARACTERS:
        raise PipelineError(
            f"Expected the chat template of {model!r} to add at most {RENDERED_CHARACTERS:,} characters, found "
            f"{len(rendered) - len(content):,}; {OTHER}"
        )
    for printed in ADDRESS.findall(rendered):
        if printed not in content:
            raise PipelineError(
                f"Expected the chat template of {model!r} to render the same text in every process, found that it "
                f"prints {printed[:80]!r}; {OTHER}"
            )
    return rendered


def tells_date(tokenizer: "PreTrainedTokenizerBase", model: str) -> bool:
    """Whether a prompt depends on the date that the template is told."""
    if not tokenizer.chat_template:
        return False
    asked = [{"role": "user", "content": "Hello"}]
    one, other = (rendered_chat(tokenizer, asked, model, day, add_generation_prompt=True) for day in TWO_DAYS)
    return one != other


def _on(date: datetime.date, pattern: str) -> str:
    """`strftime` of the day's first second; the seconds since 1970 (`%s`) as in UTC, not where the machine stands."""
    moment = datetime.datetime(date.year, date.month, date.day)
    seconds = str(int(moment.replace(tzinfo=datetime.UTC).timestamp()))
    return moment.strftime(re.sub("%(.)", lambda found: seconds if found[1] == "s" else found[0], pattern))


@contextmanager
def _fixed_choices() -> Iterator[None]:
    """What a template draws at random (Jinja's filter `random`, its `lipsum`) is the same every time."""
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in what runs longer; without effect on Windows and outside the main thread."""
    if not hasattr(signal, "setitimer") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    # Again and again: Jinja swallows what is raised while it works out constants.
    signal.setitimer(signal.ITIMER_REAL, seconds, 0.05)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
