"""What the figures of one model are drawn from."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from safety_tax.core.rows import LabelVerdict
from safety_tax.results.variant import ModelResults


class Run(NamedTuple):
    """One measured model, and each variant's verdicts on the answers that get a label."""

    results: ModelResults
    answers: Mapping[str, Sequence[LabelVerdict]]

    @property
    def model(self) -> str:
        """Its name in params.yaml."""
        return self.results.model

    @property
    def variants(self) -> list[str]:
        """`base` first."""
        return list(self.results.variants)

    @property
    def intervals(self) -> str:
        """`95 % intervals`."""
        return f"{100 * self.results.confidence:g}\N{NO-BREAK SPACE}% intervals"
