"""What the figures of one model are drawn from."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stages.lib.params import Metrics
from stages.lib.rows import Response


class Run(NamedTuple):
    """One measured model. `summary` is `metrics/detail/<model>.json`: fractions, `base` first."""

    model: str
    summary: Mapping[str, Mapping[str, Any]]
    responses: Mapping[str, Sequence[Response]]
    settings: Metrics

    @property
    def recipes(self) -> list[str]:
        """The variants without the base."""
        return [name for name in self.summary if name != "base"]

    @property
    def intervals(self) -> str:
        """`95 % intervals`."""
        return f"{100 * self.settings.confidence:g}\N{NO-BREAK SPACE}% intervals"
