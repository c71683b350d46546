"""StrongREJECT (Souly et al. 2024, arXiv:2402.10260): 313 harmful prompts in six categories."""

from pathlib import Path

from safety_tax.datasets.item import Item
from safety_tax.datasets.tables import read_table


def read(source: Path) -> list[Item]:
    """Read the Hub's copy, or the project's own CSV file; the group is the category."""
    official = "strongreject_dataset.csv"
    column = "forbidden_prompt" if (source / official).exists() else "prompt"
    patterns = (official,) if column == "forbidden_prompt" else ("data/*.parquet",)
    rows = read_table(source, patterns, {column: str, "category": str})
    return [Item(group=row["category"], text=row[column].strip()) for row in rows]
