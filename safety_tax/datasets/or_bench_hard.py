"""OR-Bench hard (Cui et al. 2024, arXiv:2405.20947): 1,319 benign prompts that several models refuse."""

from pathlib import Path

from safety_tax.datasets.item import Item
from safety_tax.datasets.tables import read_table


def read(source: Path) -> list[Item]:
    """Read `or-bench-hard-1k.csv`; the group is the category."""
    rows = read_table(source, ("or-bench-hard-1k.csv",), {"prompt": str, "category": str})
    return [Item(group=row["category"], text=row["prompt"].strip()) for row in rows]
