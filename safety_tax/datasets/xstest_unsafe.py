"""XSTest's unsafe contrasts: harmful prompts."""

from pathlib import Path

from safety_tax.datasets.item import Item
from safety_tax.datasets.xstest import prompts_labelled


def read(source: Path) -> list[Item]:
    """The prompts labelled `unsafe`."""
    return prompts_labelled(source, "unsafe")
