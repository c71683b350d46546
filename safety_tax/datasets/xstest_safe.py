"""XSTest's safe prompts: refusing them is over-refusal."""

from pathlib import Path

from safety_tax.datasets.item import Item
from safety_tax.datasets.xstest import prompts_labelled


def read(source: Path) -> list[Item]:
    """The prompts labelled `safe`."""
    return prompts_labelled(source, "safe")
