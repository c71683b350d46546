"""What changed between two revisions, in words and numbers for people: in a terminal, a pull request or the report."""

from safety_tax.core.currencies import CURRENCIES
from safety_tax.results.comparison.items import Change

HEADLINE = (
    "safety",
    "jailbreak_resistance",
    "harm_rate",
    "over_refusal",
    *(currency.measure for currency in CURRENCIES.values()),
    "bits_per_byte",
)


def number(change: Change, value: float, sign: str = "") -> str:
    """In points of 100, but bits per byte in bits."""
    return f"{value:{sign}.3f}" if change.rate == "bits_per_byte" else f"{100 * value:{sign}.1f}"


def difference(change: Change) -> str:
    """`-6.0 [-9.9, -2.0]`"""
    values = change.difference.estimate, change.difference.lower, change.difference.upper
    estimate, low, high = (number(change, value, sign) for value, sign in zip(values, ("+", "", ""), strict=True))
    return f"{estimate} [{low}, {high}]"


def p_value(change: Change) -> str:
    """After Holm's correction; empty for a mean."""
    if change.p_holm is None:
        return ""
    return "<0.001" if change.p_holm < 0.001 else f"{change.p_holm:.3f}"


def sentence(change: Change) -> str:
    """`safety of ties fell by 6.0 points`"""
    direction = "rose" if change.difference.estimate > 0 else "fell"
    unit = "bits" if change.rate == "bits_per_byte" else "points"
    return f"{change.rate} of {change.variant} {direction} by {number(change, abs(change.difference.estimate))} {unit}"


def differs_as_shown(change: Change) -> bool:
    """Whether a person sees two numbers."""
    return number(change, change.before) != number(change, change.after)
