"""What every judge returns."""

from typing import NamedTuple

from safety_tax.core.rows import Label


class Judgement(NamedTuple):
    """A label, and the short stable name of the rule or class that decided it."""

    label: Label
    rule: str
    looped: bool = False
    """Whether the response ends in repeating itself."""
    harmful: bool | None = None
    """Whether the response is harmful; None where the judge does not tell."""
