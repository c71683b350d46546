"""Numbers with their limits, as they are written to JSON and shown to people."""

from pydantic import BaseModel, ConfigDict

from safety_tax.results.statistics.intervals import Interval
from safety_tax.results.statistics.paired import PairedDifference

ESTIMATE_ENDS = {"": "value", "_lo": "low", "_hi": "high"}
"""Endings of a flat key, as in `safety_gain_lo`, and the field of an Estimate that each stands for."""


class Record(BaseModel):
    """A frozen part of a result; an unknown key is an error, NaN and Infinity are."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Estimate(Record):
    """A number, its two-sided limits, and how many items it is of; in the unit of `value`, mostly a fraction."""

    value: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, interval: Interval, n: int) -> "Estimate":
        """An interval of the statistics, with its number of items."""
        return cls(value=interval.estimate, low=interval.lower, high=interval.upper, n=n)

    def flat(self, key: str) -> dict[str, float]:
        """`key`, `key_lo` and `key_hi`, for a JSON file that people compare."""
        return {key + end: getattr(self, field) for end, field in ESTIMATE_ENDS.items()}

    @property
    def above_zero(self) -> bool:
        """Whether the whole interval is."""
        return self.low > 0

    @property
    def below_zero(self) -> bool:
        """Whether the whole interval is."""
        return self.high < 0


class Effect(Estimate):
    """A paired difference to the base, signed; `discordance` is the share of the items that differ."""

    variance: float
    discordance: float

    @classmethod
    def from_paired(cls, difference: PairedDifference) -> "Effect":
        """A paired difference of the statistics."""
        return cls(
            value=difference.estimate,
            low=difference.lower,
            high=difference.upper,
            n=difference.n,
            variance=difference.variance,
            discordance=difference.discordance,
        )

    @property
    def paired(self) -> PairedDifference:
        """The same for the statistics."""
        return PairedDifference(self.value, self.variance, self.low, self.high, self.n, self.discordance)


def fixed(value: float, digits: int) -> str:
    """A number with a real minus sign, and no minus before zero."""
    text = f"{value:.{digits}f}"
    return (text if float(text) else f"{0:.{digits}f}").replace("-", "−")


def shown(estimate: Estimate, scale: float = 100, digits: int = 1, unit: str = "") -> str:
    """`61.0 [55.0, 67.0]`, or with a unit `61.0 points [55.0, 67.0]`; a negative scale says the opposite."""
    low, high = sorted((scale * estimate.low, scale * estimate.high))
    return f"{fixed(scale * estimate.value, digits)}{unit} [{fixed(low, digits)}, {fixed(high, digits)}]"
