"""The models that can be measured, and how each is asked."""

import datetime
import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_serializer

from safety_tax.settings.section import OneOfEach, Repository, Section
from safety_tax.settings.sources import Source
from safety_tax.settings.stages import OwnNewTokens, OwnRun


class Model(Section):
    """One entry of the catalogue."""

    source: Source
    dtype: Literal["float32", "float16", "bfloat16"]
    """Of all its weights: fetched, merged, and read by the ONNX graph."""
    chat_template: Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
    """`own`, or the name of a file in `data/chat_templates/` for a model that has none."""
    benchmarks: str
    """The one of `benchmark_sets` that the model is measured on."""
    stop: list[Annotated[str, Field(min_length=1, max_length=100)]]
    """Strings that end an answer, beside the tokens by which the model ends its turn; they are not part of it."""
    utility_format: Literal["letter", "continuation"]
    shots: Annotated[int, Field(ge=0, le=5)]
    """Solved dev questions of the subject before each question in the format `letter`."""
    problem_format: Literal["chat", "worked_examples"]
    """`chat`: the problem in the chat template, with a request to reason; `worked_examples`: after solved ones."""
    max_new_tokens: OwnNewTokens
    """In place of those of `infer`, for a model that needs others."""
    run: OwnRun = OwnRun()
    """In place of those of `run`, for a model that is larger or smaller than the others."""
    lora_targets: Literal["all"] | Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1), OneOfEach]
    """Names of linear layers, whole or the end of them; `all`: every one but the head."""


class Published(Section):
    """What is known of a model's publication; `safety-tax card` says it, and no stage reads it."""

    licence: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] | None = None
    """As the Hugging Face Hub abbreviates it: `apache-2.0`, `llama3.1`."""
    repository: Repository | None = None
    """Its name on the Hub, where `source` is another place."""


def _day(value: Any) -> Any:
    """ISO 8601. Not YAML's own date, which DVC's tables and JSON do not hold."""
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        shown = f"{value}, without quotes" if isinstance(value, datetime.date) else repr(value)[:40]
        raise ValueError(f'{shown}; write a date in quotes, year-month-day: "2024-07-26"')
    try:
        return datetime.date.fromisoformat(value)
    except ValueError:
        raise ValueError(f'{value!r}, which is no day; write a date as "2024-07-26"') from None


class Prompting(Section):
    """What every prompt is made with."""

    date: Annotated[datetime.date, BeforeValidator(_day)]
    """The day that a chat template is told when it asks for one."""

    @field_serializer("date")
    def _as_written(self, date: datetime.date) -> str:
        return date.isoformat()
