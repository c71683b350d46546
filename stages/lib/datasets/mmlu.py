"""MMLU test questions (Hendrycks et al. 2021, arXiv:2009.03300): 14,042 in 57 subjects."""

import json
from pathlib import Path

from stages.lib.datasets.item import Item


def read(source: Path) -> list[Item]:
    """Read one JSON object a line; the group is the subject, spelt with spaces."""
    items = []
    for line in source.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["correct_answer"] not in ("A", "B", "C", "D"):
            continue  # two rows repeat the header
        choices = [row[f"answer_{letter}"] for letter in "abcd"]
        gold = "ABCD".index(row["correct_answer"])
        items.append(Item(group=row["topic"], text=row["question"], choices=choices, gold=gold))
    return items
