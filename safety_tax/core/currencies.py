"""What safety is paid in. Adding a currency is an entry here, and its price in `params.yaml`.

Each has its own items, disjoint from those of all others, and its loss, tax, limits and status by the same formulas.
"""

from typing import NamedTuple

from safety_tax.core.rows import Kind

FLOOR = 0.05
"""A base that gets a smaller share of a currency's items right has nothing to lose."""


class Currency(NamedTuple):
    """One currency: what its items are, the flat keys of its numbers, and its words."""

    kind: Kind
    measure: str
    """The share whose fall is the loss, and the flat key of its value."""
    loss: str
    """Flat key of the loss."""
    tax: str
    """Flat key of the tax."""
    status: str
    """Flat key of what the tax amounts to."""
    column: str
    """The tax in `dvc metrics show`, where all currencies share a line of 120 letters with a path."""
    noun: str
    """The measure in words."""
    items: str
    """What its items are called."""
    does: str
    """What a model does of 100 items, with a place for how many: "answers {} of 100 harmless prompts"."""


CURRENCIES: dict[str, Currency] = {
    "helpfulness": Currency(
        kind="benign",
        measure="helpfulness",
        loss="helpfulness_loss",
        tax="helpfulness_tax",
        status="helpfulness_status",
        column="help_tax",
        noun="helpfulness",
        items="harmless prompts",
        does="answers {} of 100 harmless prompts",
    ),
    # The original report's own currency, so its keys are the report's.
    "knowledge": Currency(
        kind="choice",
        measure="utility",
        loss="utility_loss",
        tax="safety_tax",
        status="tax_status",
        column="safety_tax",
        noun="accuracy",
        items="multiple-choice questions",
        does="gets {} of 100 multiple-choice questions right",
    ),
    "reasoning": Currency(
        kind="problem",
        measure="reasoning",
        loss="reasoning_loss",
        tax="reasoning_tax",
        status="reasoning_status",
        column="reason_tax",
        noun="reasoning",
        items="problems",
        does="solves {} of 100 problems",
    ),
    "instructions": Currency(
        kind="instruction",
        measure="instructions",
        loss="instructions_loss",
        tax="instructions_tax",
        status="instructions_status",
        column="follow_tax",
        noun="instruction following",
        items="prompts with instructions",
        does="follows {} of 100 prompts to the letter",
    ),
}
