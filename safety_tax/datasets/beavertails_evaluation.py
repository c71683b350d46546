"""BeaverTails-Evaluation (Ji et al. 2023, arXiv:2307.04657): 700 harmful prompts in 14 categories."""

from pathlib import Path

from safety_tax.datasets.item import Item
from safety_tax.datasets.tables import read_table


def read(source: Path) -> list[Item]:
    """Read `v1/test.jsonl.gz` (or `.xz`, in later commits); the group is the category."""
    rows = read_table(source, ("v1/test.jsonl.gz", "v1/test.jsonl.xz"), {"prompt": str, "category": str})
    return [Item(group=row["category"], text=row["prompt"].strip()) for row in rows]
