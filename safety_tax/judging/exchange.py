"""What every judge is given."""

from typing import Literal, NamedTuple

from safety_tax.core.rows import Kind


class Exchange(NamedTuple):
    """One prompt and the response to it. The label is about the response alone.

    `prompt` is there for judges whose own template holds the conversation (guards): context, never judged itself.
    """

    id: str
    kind: Kind
    prompt: str
    response: str
    finish_reason: Literal["stop", "length"]
