"""HarmBench (Mazeika et al. 2024, arXiv:2402.04249), the 200 standard behaviours with their categories."""

from pathlib import Path

from safety_tax.datasets.item import Item
from safety_tax.datasets.tables import read_table


def read(source: Path) -> list[Item]:
    """Read the Hub's copy, or the project's own CSV file, of which the standard behaviours are taken."""
    official = "harmbench_behaviors_text_all.csv"
    if (source / official).exists():
        columns = {"Behavior": str, "FunctionalCategory": str, "SemanticCategory": str}
        rows = read_table(source, (official,), columns)
        return [
            Item(group=row["SemanticCategory"], text=row["Behavior"].strip())
            for row in rows
            if row["FunctionalCategory"] == "standard"
        ]
    rows = read_table(source, ("standard/*.parquet",), {"prompt": str, "category": str})
    return [Item(group=row["category"], text=row["prompt"].strip()) for row in rows]
