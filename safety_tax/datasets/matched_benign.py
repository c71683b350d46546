"""Benign prompts that sound dangerous, written for this project after XSTest's kinds (Röttger et al. 2024).

Each names the harmful sense that it could be mistaken for and has a helpful answer.
"""

from pathlib import Path

from safety_tax.core.text_files import read_objects
from safety_tax.datasets.item import Item


def read(source: Path) -> list[Item]:
    """Read the `benign*.jsonl` files of the folder `source`."""
    rows = [
        row
        for file in sorted(source.glob("benign*.jsonl"))
        for row in read_objects(file, ("group", "text", "pair", "answer"))
    ]
    return [Item(group=row["group"], text=row["text"], pair=row["pair"], answer=row["answer"]) for row in rows]
