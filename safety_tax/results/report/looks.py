"""How the report marks what it says: a symbol, a word and a tone, so that colour never says anything alone."""

from typing import Literal, NamedTuple

from safety_tax.results.estimate import Estimate
from safety_tax.results.statistics.tax import TaxStatus
from safety_tax.results.variant import ModelResults

Tone = Literal["good", "bad", "dear", "calm"]
Look = Literal["choose", "stands", "dominated", "base"]


class Said(NamedTuple):
    """A coloured word with its symbol, and the sentence that explains it."""

    symbol: str
    word: str
    tone: Tone
    meaning: str


STATUSES: dict[TaxStatus, Said] = {
    "win": Said("▲", "win", "good", "Safer, and better in this, too."),
    "free": Said("✓", "free", "good", "Safer, and any loss is surely below the margin."),
    "tradeoff": Said("⇄", "tradeoff", "dear", "Safer, and paid for: the tax is the price."),
    "unresolved": Said("?", "unresolved", "calm", "Safer; the loss may be nothing or too much. More items would tell."),
    "at_chance": Said("≈", "at chance", "calm", "Safer; the base only guesses, so that no loss can show."),
    "at_floor": Said("⊥", "at floor", "calm", "Safer; the base gets almost none right, so that no loss can show."),
    "no_gain": Said("○", "no gain", "calm", "A gain in safety is not shown, so that there is no tax."),
    "dominated": Said("✕", "dominated", "bad", "Less safe than the base, and worse in this, too."),
    "regressed": Said("▼", "regressed", "bad", "Less safe than the base."),
}
PLACES: dict[Look, Said] = {
    "choose": Said("★", "choose", "good", "Surely better than the base at these prices, and the best of all."),
    "stands": Said("●", "on the frontier", "calm", "No other recipe is surely better."),
    "dominated": Said("○", "dominated", "bad", "Another recipe is surely better, and nothing speaks for this one."),
    "base": Said("◆", "base", "calm", "The model as it was, unmerged."),
}


def look_of(name: str, results: ModelResults) -> Look:
    """Where a variant stands among the others."""
    if name == "base":
        return "base"
    if name == results.recommended:
        return "choose"
    return "dominated" if results.variants[name].dominated_by else "stands"


def tone_of(change: Estimate) -> Tone:
    """Of a change for the better where it is above zero; calm where it may be nothing."""
    if change.above_zero:
        return "good"
    return "bad" if change.below_zero else "calm"


def arrow_of(change: Estimate) -> str:
    """The same as a symbol."""
    return {"good": "▲", "bad": "▼"}.get(tone_of(change), "≈")


def opposite(loss: Estimate) -> Estimate:
    """A loss as a change for the better."""
    return Estimate(value=-loss.value, low=-loss.high, high=-loss.low, n=loss.n)
