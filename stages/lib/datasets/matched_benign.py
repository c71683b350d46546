"""Benign prompts that sound dangerous, written for this project after XSTest's kinds (Röttger et al. 2024).

Each names the harmful sense that it could be mistaken for and has a helpful answer.
"""

import json
from pathlib import Path

from stages.lib.datasets.item import Item


def read(source: Path) -> list[Item]:
    """Read the `benign*.jsonl` files of the folder `source`."""
    rows = [
        json.loads(line)
        for file in sorted(source.glob("benign*.jsonl"))
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    return [Item(group=row["group"], text=row["text"], pair=row["pair"], answer=row["answer"]) for row in rows]
