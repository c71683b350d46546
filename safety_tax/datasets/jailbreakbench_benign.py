"""JailbreakBench (Chao et al. 2024, arXiv:2404.01318): 100 benign goals, one on the theme of each harmful one."""

from pathlib import Path

from safety_tax.datasets.item import Item
from safety_tax.datasets.tables import read_table


def read(source: Path) -> list[Item]:
    """Read `data/benign-behaviors.csv`; the group is the category."""
    rows = read_table(source, ("data/benign-behaviors.csv",), {"Goal": str, "Category": str})
    return [Item(group=row["Category"], text=row["Goal"].strip()) for row in rows]
