"""MMLU test questions (Hendrycks et al. 2021, arXiv:2009.03300): 14,042 in 57 subjects."""

from pathlib import Path

from safety_tax.core.text_files import read_objects
from safety_tax.datasets.item import Item

COLUMNS = ("question", "topic", "correct_answer", *(f"answer_{letter}" for letter in "abcd"))


def read(source: Path) -> list[Item]:
    """Read one JSON object a line; the group is the subject, spelt with spaces."""
    items = []
    for row in read_objects(source, COLUMNS):
        if row["correct_answer"] not in ("A", "B", "C", "D"):
            continue  # two rows repeat the header
        choices = [row[f"answer_{letter}"] for letter in "abcd"]
        gold = "ABCD".index(row["correct_answer"])
        items.append(Item(group=row["topic"], text=row["question"], choices=choices, gold=gold))
    return items
